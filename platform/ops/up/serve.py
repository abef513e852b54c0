"""Serve the web application on a listening socket that `up` opened and keeps.

Because the socket outlives this process, clients that connect while it is being restarted wait a
moment instead of being refused.

    python -m ops.up.serve DESCRIPTOR
"""

from __future__ import annotations

import socket
import sys

import uvicorn

from live.protocol import SocketProtocol

# Open streams are ended after this many seconds when the process is asked to stop; clients come
# back with the number of the last event that they saw.
GRACEFUL_SECONDS = 3
# A socket is pinged this often, and closed when no pong came for so long: a client that has gone
# without a word is noticed within 55 s.
PING_SECONDS = 20.0
PONG_SECONDS = 35.0


def configuration(*, ping: float = PING_SECONDS, pong: float = PONG_SECONDS) -> uvicorn.Config:
    """Return how the web process serves; tests shorten the pings, in seconds."""
    return uvicorn.Config(
        "config.asgi:application",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="off",
        ws=SocketProtocol,
        ws_max_size=64 * 1024,
        ws_ping_interval=ping,
        ws_ping_timeout=pong,
        timeout_graceful_shutdown=GRACEFUL_SECONDS,
    )


def main() -> None:
    """Run until SIGTERM."""
    listener = socket.socket(fileno=int(sys.argv[1]))
    uvicorn.Server(configuration()).run(sockets=[listener])


if __name__ == "__main__":
    main()
