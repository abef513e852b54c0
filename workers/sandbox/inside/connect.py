"""A ProxyCommand for ssh: joins stdin and stdout to a host through the run's egress proxy.

python -I -S connect.py HOST PORT
"""

from __future__ import annotations

import os
import select
import socket
import sys

PROXY = ("127.0.0.1", 3128)


def main(host: str, port: str) -> int:
    """Carry bytes until either side ends; exit 1 with the proxy's words when it refuses."""
    proxy = socket.create_connection(PROXY)
    proxy.sendall(f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
    head = b""
    while b"\r\n\r\n" not in head:
        byte = proxy.recv(1)
        if not byte:
            break
        head += byte
    if head.split(b" ")[1:2] != [b"200"]:
        sys.stderr.write(head.decode("latin-1") + proxy.recv(4096).decode("latin-1"))
        return 1
    reading = [0, proxy.fileno()]
    while True:
        ready, _, _ = select.select(reading, [], [])
        if proxy.fileno() in ready:
            data = proxy.recv(65536)
            if not data:
                return 0
            while data:
                data = data[os.write(1, data) :]
        if 0 in ready:
            data = os.read(0, 65536)
            if data:
                proxy.sendall(data)
            else:
                reading.remove(0)
                proxy.shutdown(socket.SHUT_WR)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
