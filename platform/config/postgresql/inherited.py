"""A connection that was made before a fork, for the fork to put a socket of its own under it.

What libpq, psycopg and Django do to connect writes to 440 pages, each of which is copied for a fresh
fork first. With this it is 100, and in the whole life of a supervisor 1,950 instead of 2,100.

All sessions of this machine's pooler (:mod:`ops.pools.pooler`) are greeted alike, so the memory of one
connection fits any of them. A fork opens a socket, says hello, and compares the greeting with what the
connection was greeted with; if that differs, or anything goes wrong, it connects as everybody does.

The session's process and its key for cancelling are all of which libpq remembers the old ones. Nobody
asks a supervisor's connection for those, and the pooler takes no cancelling.
"""

from __future__ import annotations

import os
import socket
import time

from ops.pools.protocol import KEY_BYTES, READY, hello
from rest.patience import PREPARED, PatientConnection

GREETING_CAP = 100_000


class Inherited:
    """A connection without a socket; made by :meth:`of` before the fork, used once after it."""

    def __init__(
        self, connection: PatientConnection, address: str, hello: bytes, greeting: bytes, seconds: float
    ) -> None:
        self._connection = connection
        self._descriptor = connection.pgconn.socket
        self._address = address
        self._hello = hello
        self._greeting = greeting
        self._seconds = seconds

    @classmethod
    def of(cls, connection: PatientConnection, *, seconds: float) -> Inherited | None:
        """Give a connection's session back and keep the rest; None, and closed, if it is no pooler's.

        ``connection`` is at rest. ``seconds`` is how long a fork waits to be greeted.
        """
        pgconn = connection.pgconn
        prepared = pgconn.parameter_status(PREPARED)
        address = f"{pgconn.host.decode()}/.s.PGSQL.{pgconn.port.decode()}"
        said = hello(pgconn.user, pgconn.password)
        greeted = _greeting(address, said, seconds) if prepared else None
        if prepared is None or greeted is None:
            connection.close()
            return None
        greeting, stream = greeted
        stream.close()
        connection.prepared = frozenset(prepared.split())
        nowhere = os.open(os.devnull, os.O_RDWR)
        os.dup2(nowhere, pgconn.socket, inheritable=False)
        os.close(nowhere)
        return cls(connection, address, said, greeting, seconds)

    def connect(self) -> PatientConnection | None:
        """Return the connection over a socket of its own, or None: it must be made anew."""
        greeted = _greeting(self._address, self._hello, self._seconds)
        if greeted is None:
            return None
        greeting, stream = greeted
        with stream:
            if greeting != self._greeting:
                return None
            os.dup2(stream.fileno(), self._descriptor, inheritable=False)
        self._connection.made_at = self._connection.heard_at = time.monotonic()
        return self._connection


def _greeting(address: str, hello: bytes, seconds: float) -> tuple[bytes, socket.socket] | None:
    """Return what is answered to hello, without the session's key, and the (non-blocking) socket."""
    stream = socket.socket(socket.AF_UNIX)
    stream.settimeout(seconds)
    heard = b""
    try:
        stream.connect(address)
        stream.sendall(hello)
        while not heard.endswith(READY):
            more = stream.recv(GREETING_CAP)
            heard += more
            if not more or len(heard) > GREETING_CAP:
                raise ConnectionError
    except OSError:
        stream.close()
        return None
    return heard[: -KEY_BYTES - len(READY)], stream
