"""The only way out of a `full` sandbox: a proxy of the supervisor's that looks at every address.

Speaks HTTP/1.1: `CONNECT host:port` (https, ssh through `inside.connect`) and absolute-form requests
(http). The sandbox's reaper makes the listening socket inside its own net namespace and hands it
out (`inside.reaper.hand_out_listener`); connections are accepted here and made outside, so the
handler has no route to anything but this.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
from collections.abc import Iterable
from urllib.parse import urlsplit

from workers.sandbox.addresses import AddressRefused, Network, Service, check, networks

PORT = 3128
HEAD_CAP = 64 * 1024
CONNECT_SECONDS = 10.0
IDLE_SECONDS = 300.0
CONNECTIONS = 64
"""At once, per run: more wait in the listener's backlog."""


class Egress:
    """The proxy of one run; its threads are daemons and end with `close()`."""

    def __init__(self, allow: Iterable[str] = (), deny: Iterable[Service] = ()) -> None:
        self._allowed = networks(allow)
        self._closed_services = tuple(deny)
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._theirs = theirs
        self._listener: socket.socket | None = None
        self._slots = threading.BoundedSemaphore(CONNECTIONS)
        self._open: set[socket.socket] = set()
        self._closed = False

    def channel_for_sandbox(self) -> int:
        """The descriptor on which the sandbox hands its listener out; the caller owns it."""
        return self._theirs.detach()

    def start(self) -> None:
        """Serve as soon as the listener arrives."""
        threading.Thread(target=self._serve, name="egress", daemon=True).start()

    def close(self) -> None:
        """Cut every connection and serve no more."""
        self._closed = True
        for each in (self._ours, self._listener, *tuple(self._open)):
            if each is not None:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
                each.close()

    def _serve(self) -> None:
        try:
            _, handles, _, _ = socket.recv_fds(self._ours, 1, 1)
        except OSError:
            return
        if not handles:  # the sandbox was refused or killed before it listened
            return
        self._listener = socket.socket(fileno=handles[0])
        while not self._closed:
            self._slots.acquire()
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._guard, args=(client,), name="egress", daemon=True).start()

    def _guard(self, client: socket.socket) -> None:
        self._open.add(client)
        try:
            with contextlib.suppress(OSError), client:
                client.settimeout(CONNECT_SECONDS)
                self._handle(client)
        finally:
            self._open.discard(client)
            self._slots.release()

    def _handle(self, client: socket.socket) -> None:
        head, rest = _read_head(client)
        try:
            host, port, opening = route(head)
        except ValueError as error:
            _answer(client, "400 Bad Request", str(error))
            return
        try:
            server = connect(host, port, self._allowed, self._closed_services)
        except AddressRefused as error:
            _answer(client, "403 Forbidden", str(error))
            return
        except OSError as error:
            _answer(client, "502 Bad Gateway", f"{host}: {error.strerror or error}")
            return
        self._open.add(server)
        try:
            with server:
                if opening:
                    server.sendall(opening + rest)
                else:
                    client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                    if rest:
                        server.sendall(rest)
                _pump(client, server)
        finally:
            self._open.discard(server)


def route(head: bytes) -> tuple[str, int, bytes]:
    """Where a proxy request leads, and the request head to send there (empty for CONNECT).

    A plain request is made to close afterwards: the next one on a kept connection could name
    another host, which nobody would check.
    """
    lines = head.decode("latin-1").split("\r\n")
    try:
        method, target, version = lines[0].split(" ")
    except ValueError:
        raise ValueError("This is no proxy request.") from None
    parts = urlsplit(f"//{target}" if method == "CONNECT" else target)
    if method != "CONNECT" and parts.scheme != "http":
        raise ValueError("Only http:// addresses and CONNECT are served here.")
    if parts.hostname is None or not version.startswith("HTTP/1."):
        raise ValueError("The request names no host.")
    if method == "CONNECT":
        if parts.port is None:
            raise ValueError("CONNECT needs a port.")
        return parts.hostname, parts.port, b""
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    dropped = ("connection:", "proxy-", "keep-alive:")
    kept = [line for line in lines[1:] if line and not line.lower().startswith(dropped)]
    opening = "\r\n".join([f"{method} {path} {version}", *kept, "Connection: close", "", ""])
    return parts.hostname, parts.port or 80, opening.encode("latin-1")


def connect(
    host: str, port: int, allowed: Iterable[Network], closed: Iterable[Service] = ()
) -> socket.socket:
    """Connect to a checked address of a host: the first that answers."""
    failure: OSError | None = None
    for address in check(host, port, allowed, closed=closed):
        try:
            return socket.create_connection((address, port), timeout=CONNECT_SECONDS)
        except OSError as error:
            failure = error
    raise failure or OSError(f"{host} has no address.")


def _read_head(client: socket.socket) -> tuple[bytes, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        more = client.recv(8192)
        if not more or len(data) > HEAD_CAP:
            raise OSError("no request head")
        data += more
    head, _, rest = data.partition(b"\r\n\r\n")
    return head, rest


def _answer(client: socket.socket, status: str, text: str) -> None:
    body = (text + os.linesep).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n"
    client.sendall(f"{head}Connection: close\r\n\r\n".encode() + body)


def _pump(client: socket.socket, server: socket.socket) -> None:
    """Carry bytes both ways until both sides are done or nothing moves for five minutes."""
    other = {client: server, server: client}
    for each in other:
        each.settimeout(IDLE_SECONDS)
    reading = set(other)
    while reading:
        ready, _, _ = select.select(list(reading), [], [], IDLE_SECONDS)
        if not ready:
            return
        for source in ready:
            data = source.recv(65536)
            if data:
                other[source].sendall(data)
                continue
            reading.discard(source)
            with contextlib.suppress(OSError):
                other[source].shutdown(socket.SHUT_WR)
