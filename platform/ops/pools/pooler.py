"""Keeps connections to PostgreSQL for this machine's supervisors, each of which lives for one run.

    DATABASE_URL=… SWITCHYARD_POOLER_PASSWORD=… SWITCHYARD_POOLER_STATEMENTS={name: PREPARE…, …}
    python -m ops.pools.pooler FOLDER

A supervisor that connects by itself costs the server a new process, empty caches and cold plans: half
of what a small run costs PostgreSQL (measured in bench/RESULTS.md). Here it gets a session that
another one has left, over a Unix socket in FOLDER that only the workers' account can reach, with a
password besides, because a handler at isolation level `process` may be of that account.

It speaks just enough of PostgreSQL's protocol (version 3, "Frontend/Backend Protocol" in its manual)
to greet a client and to see when a session is at rest: every request answered, no transaction open.
Only such a session is given to the next client. Any other one is closed, which rolls back what its
client, perhaps killed in mid-transaction, has left. Sessions are not reset, since all clients are
supervisors, which leave nothing behind: no SET, no session locks, no temporary tables.

A new session prepares the statements that it is told, and its clients are told their names in a
parameter of the session (`rest.patience.PREPARED`).

A session over TLS cannot be passed on; the pool manager does not start a pooler then.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import logging
import os
import signal
import socket
import struct
import sys
from collections.abc import Mapping
from pathlib import Path

import psycopg

from ops.pools.protocol import PROTOCOL_3, Frames, greeting, message
from rest.patience import IDLE_IN_TRANSACTION

PORT = 5432
"""Only part of the socket's name, by which libpq finds it."""

CONNECT_SECONDS = 3
STARTUP_CAP = 10_000
REFUSED_REQUESTS = {80877103, 80877104}
"""SSLRequest and GSSENCRequest, answered with N: not here."""

ASKS = frozenset(b"QSF")
"""Messages of a client that the server answers with ReadyForQuery: Query, Sync, FunctionCall."""

READY, TERMINATE, PASSWORD, AT_REST = ord("Z"), ord("X"), ord("p"), ord("I")

logger = logging.getLogger(__name__)


class Session(asyncio.Protocol):
    """One connection to the server, and whether it may be given away."""

    def __init__(
        self, pooler: Pooler, opened: psycopg.AsyncConnection[tuple[object, ...]], prepared: bytes
    ) -> None:
        self.pooler = pooler
        self.opened = opened
        self.greeting = greeting(opened.pgconn, prepared)
        self.client: Client | None = None
        self.unanswered = 0
        self.unsynced = False
        self.state = AT_REST
        self.transport: asyncio.Transport
        self._frames = Frames()

    @property
    def at_rest(self) -> bool:
        """Whether every request has been answered and no transaction is open."""
        return (
            not self.unanswered
            and not self.unsynced
            and self.state == AT_REST
            and self._frames.whole
            and not self.transport.is_closing()
        )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - a stream's always is
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Pass the server's answer on; what it says to nobody (it shuts down) ends the session."""
        for kind, first, _ in self._frames.feed(data):
            if kind == READY:
                self.unanswered -= 1
                self.state = first
        if self.client is None:
            self.close()
        else:
            self.client.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the client by closing its connection too."""
        self.pooler.forget(self)
        if self.client is not None:
            self.client.transport.close()

    def pause_writing(self) -> None:
        """Hold the client back while the server does not read."""
        if self.client is not None:
            self.client.transport.pause_reading()

    def resume_writing(self) -> None:
        """Let the client go on."""
        if self.client is not None:
            self.client.transport.resume_reading()

    def close(self) -> None:
        """End the session in good manners."""
        self.transport.abort()
        self.opened.pgconn.finish()


class Client(asyncio.Protocol):
    """One supervisor's connection: greeted, asked for the password, then joined to a session."""

    def __init__(self, pooler: Pooler) -> None:
        self.pooler = pooler
        self.session: Session | None = None
        self.transport: asyncio.Transport
        self._received = b""
        self._started = False
        self._joining: asyncio.Task[None] | None = None
        self._frames = Frames()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - a stream's always is
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Forward what a joined client says; before that, greet it."""
        if self.session is not None:
            self._forward(self.session, data)
            return
        self._received += data
        if len(self._received) > STARTUP_CAP or self._joining is not None:
            self.transport.abort()
            return
        if not self._started:
            self._greet()
        if self._started:
            self._check_password()

    def connection_lost(self, exc: Exception | None) -> None:
        """Give the session back, or close it when it is not at rest."""
        if self._joining is not None:
            self._joining.cancel()
        if self.session is not None:
            session, self.session = self.session, None
            session.client = None
            self.pooler.take_back(session, whole=self._frames.whole)

    def pause_writing(self) -> None:
        """Hold the server back while the client does not read."""
        if self.session is not None:
            self.session.transport.pause_reading()

    def resume_writing(self) -> None:
        """Let the server go on."""
        if self.session is not None:
            self.session.transport.resume_reading()

    def _greet(self) -> None:
        if len(self._received) < 8:
            return
        length, code = struct.unpack("!II", self._received[:8])
        if len(self._received) < length:
            return
        self._received = self._received[length:]
        if code in REFUSED_REQUESTS:
            self.transport.write(b"N")
        elif code == PROTOCOL_3:
            self._started = True
            self.transport.write(message(b"R", struct.pack("!I", 3)))
        else:
            self.transport.abort()

    def _check_password(self) -> None:
        if len(self._received) < 5:
            return
        length = int.from_bytes(self._received[1:5], "big")
        if len(self._received) < 1 + length:
            return
        given = self._received[5:length].rstrip(b"\0")
        if self._received[0] != PASSWORD or not hmac.compare_digest(given, self.pooler.password):
            self._refuse("28P01", "The pooler's password is wrong.")
            return
        session = self.pooler.session_at_rest()
        if session is None:
            self._joining = asyncio.ensure_future(self._join_new())
        else:
            self._join(session)

    async def _join_new(self) -> None:
        try:
            session = await self.pooler.new_session()
        except (psycopg.Error, OSError, TimeoutError) as error:
            self._refuse("57P03", f"PostgreSQL cannot be reached: {error}")
        else:
            self._join(session)

    def _join(self, session: Session) -> None:
        session.client, self.session = self, session
        self.transport.write(session.greeting)

    def _forward(self, session: Session, data: bytes) -> None:
        for kind, _, began in self._frames.feed(data):
            if kind == TERMINATE:
                data = data[: max(0, began)]
                self.transport.close()
                break
            if kind in ASKS:
                session.unanswered += 1
                session.unsynced = False
            else:
                session.unsynced = True
        session.transport.write(data)

    def _refuse(self, code: str, text: str) -> None:
        fields = b"SFATAL\0VFATAL\0C" + code.encode() + b"\0M" + text.encode() + b"\0\0"
        self.transport.write(message(b"E", fields))
        self.transport.close()


class Pooler:
    """The sessions at rest, newest last; as many are open as clients ever were at once."""

    def __init__(self, url: str, password: bytes, statements: Mapping[str, str]) -> None:
        self.password = password
        self._url = url
        self._statements = statements
        self._idle: list[Session] = []

    def session_at_rest(self) -> Session | None:
        """Return a session that nobody has, if there is one."""
        while self._idle:
            session = self._idle.pop()
            if session.at_rest:
                return session
            session.close()
        return None

    async def new_session(self) -> Session:
        """Return another session.

        Raises:
            psycopg.Error, OSError: the server cannot be reached.
        """
        opened = await psycopg.AsyncConnection.connect(
            self._url,
            autocommit=True,
            connect_timeout=CONNECT_SECONDS,
            application_name="switchyard",
            client_encoding="UTF8",
            options=f"-c TimeZone=UTC {IDLE_IN_TRANSACTION}",
        )
        if opened.pgconn.ssl_in_use:
            opened.pgconn.finish()
            raise psycopg.OperationalError("a session over TLS cannot be passed on")
        prepared = await self._prepare(opened)
        stream = socket.socket(fileno=os.dup(opened.pgconn.socket))
        stream.setblocking(False)
        loop = asyncio.get_running_loop()
        connect = (
            loop.create_unix_connection if stream.family == socket.AF_UNIX else loop.create_connection
        )
        _, session = await connect(lambda: Session(self, opened, prepared), sock=stream)
        return session

    async def _prepare(self, opened: psycopg.AsyncConnection[tuple[object, ...]]) -> bytes:
        """Prepare the statements in a new session and return their names; none if one is refused."""
        try:
            for text in self._statements.values():
                await opened.execute(text.encode())
        except psycopg.DatabaseError as error:
            if opened.closed:
                raise
            # Of tables that are not there yet, for one: whoever comes sends them whole.
            logger.warning("nothing is prepared in a session: %s", error)
            return b""
        return " ".join(self._statements).encode()

    def take_back(self, session: Session, *, whole: bool) -> None:
        """Keep a session whose client has gone, or close it; ``whole``: no half message was sent."""
        if whole and session.at_rest:
            self._idle.append(session)
        else:
            session.close()

    def forget(self, session: Session) -> None:
        """Drop a session that the server has ended."""
        with contextlib.suppress(ValueError):
            self._idle.remove(session)


async def serve(url: str, password: str, statements: Mapping[str, str], folder: Path) -> None:
    """Serve on the socket in ``folder`` until SIGTERM; ``statements`` prepare something, by its name."""
    pooler = Pooler(url, password.encode(), statements)
    path = folder / f".s.PGSQL.{PORT}"
    path.unlink(missing_ok=True)
    loop = asyncio.get_running_loop()
    server = await loop.create_unix_server(lambda: Client(pooler), path, backlog=512)
    path.chmod(0o600)
    stopped = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    await stopped.wait()
    server.close()


def main() -> int:
    """Serve; the address, the password and the statements come by the environment."""
    logging.basicConfig(level=logging.INFO)
    password = os.environ["SWITCHYARD_POOLER_PASSWORD"]
    statements = json.loads(os.environ["SWITCHYARD_POOLER_STATEMENTS"])
    asyncio.run(serve(os.environ["DATABASE_URL"], password, statements, Path(sys.argv[1])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
