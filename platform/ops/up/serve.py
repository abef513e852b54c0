"""Serve the web application on a listening socket that `up` opened and keeps.

Because the socket outlives this process, clients that connect while it is being restarted wait a
moment instead of being refused.

    python -m ops.up.serve DESCRIPTOR
"""

from __future__ import annotations

import socket
import sys

import uvicorn

# Open streams are ended after this many seconds when the process is asked to stop; clients come
# back with the number of the last event that they saw.
GRACEFUL_SECONDS = 3


def main() -> None:
    """Run until SIGTERM."""
    listener = socket.socket(fileno=int(sys.argv[1]))
    config = uvicorn.Config(
        "config.asgi:application",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="off",
        ws_max_size=64 * 1024,
        timeout_graceful_shutdown=GRACEFUL_SECONDS,
    )
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
