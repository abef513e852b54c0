"""How long we wait for a database that says nothing: a frozen server must not freeze us.

Timeouts of PostgreSQL are kept by PostgreSQL, which cannot keep them while it is stopped, cut off or
out of disk. So the client counts, too: whoever has waited for :attr:`Patience.seconds` without any
answer gives up, and its connection is closed, because a late answer would be taken for that of the
next question. Time spent on anything but waiting for the database costs no patience, and each
answer renews it: a long request that is being served is not cut off.

A request has one patience for all that it asks, pool included (:func:`patient`); code without one
gets its connection's for each statement. Imports no Django.
"""

from __future__ import annotations

import select
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import psycopg
from psycopg import pq
from psycopg.abc import AdaptContext, PQGen
from psycopg.adapt import AdaptersMap
from psycopg.errors import _WaitTimeout

R = TypeVar("R")

PREPARED = b"switchyard.prepared"
"""The parameter in which a session names what is prepared in it (:mod:`rest.statements`)."""

IDLE_IN_TRANSACTION = "-c idle_in_transaction_session_timeout=8s"
"""PostgreSQL's option for the other half: a process of ours that is stopped in mid-transaction (SIGSTOP,
a machine that sleeps) holds the locks of a task. Its session is ended before those who wait for them
have lost their patience (15 s for a dispatcher). ``?options=`` in the database's URL replaces it."""

CHECK_SECONDS = 0.1
"""How often a waiting thread looks whether it was interrupted (psycopg's own default)."""


class DatabaseSilent(psycopg.OperationalError):
    """The database has not answered in time; whether it did what was asked is not known."""


class Patience:
    """The seconds of silence that one piece of work puts up with."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._spent = 0.0

    @property
    def left(self) -> float:
        """Return the seconds of silence that are left; 0 when it is over."""
        return max(0.0, self.seconds - self._spent)

    def spend(self, seconds: float) -> None:
        """Count time that was waited in vain."""
        self._spent += seconds

    def renew(self) -> None:
        """The database has answered."""
        self._spent = 0.0


_current: ContextVar[Patience | None] = ContextVar("patience", default=None)


def current() -> Patience | None:
    """Return the patience of the work that this thread or task does, if it has one."""
    return _current.get()


@contextmanager
def patient(seconds: float) -> Iterator[Patience]:
    """Give what happens inside, in threads of ``sync_to_async`` too, one patience for everything."""
    patience = Patience(seconds)
    token = _current.set(patience)
    try:
        yield patience
    finally:
        _current.reset(token)


class PatientConnection(psycopg.Connection[tuple[object, ...]]):
    """A connection that is closed when the server stays silent for too long.

    ``silence`` are the seconds for one statement outside of :func:`patient`; None is for ever.
    """

    silence: float | None = None

    prepared: frozenset[bytes] | None = None
    """What its session has prepared (:mod:`rest.statements`); None until somebody has asked."""

    lasting = False
    """Whether the session is ours for long, so that what comes again is to be prepared in it."""

    def __init__(self, *args: Any, **words: Any) -> None:
        super().__init__(*args, **words)
        self.made_at = self.heard_at = time.monotonic()

    @classmethod
    def directly(cls, conninfo: bytes, context: AdaptContext) -> PatientConnection:
        """Connect by libpq alone, in one call that waits as long as its ``connect_timeout``.

        psycopg's own way looks names up and waits by itself, so that other threads go on. A fresh fork
        has none, and copies 400 pages for it (1.7 ms).

        Raises:
            psycopg.OperationalError: nobody answered, or not as hoped.
        """
        pgconn = pq.PGconn.connect(conninfo)
        if pgconn.status != pq.ConnStatus.OK:
            raise psycopg.OperationalError(pgconn.get_error_message().strip(), pgconn=pgconn)
        pgconn.nonblocking = 1
        connection = cls(pgconn)
        connection._adapters = AdaptersMap(context.adapters)
        connection.prepare_threshold = None  # a pooler's sessions have other owners before and after
        return connection

    def has_news(self) -> bool:
        """Return whether the server has said something unasked, as it does when it ends a session."""
        poller = select.poll()
        poller.register(self.pgconn.socket, select.POLLIN)
        return bool(poller.poll(0))

    def wait(self, gen: PQGen[R], interval: float = CHECK_SECONDS, timeout: float | None = None) -> R:
        """Wait for an answer, as psycopg does for every statement.

        Raises:
            DatabaseSilent: none came in time, or PostgreSQL has ended the session because this process
                slept in a transaction; the connection is closed.
        """
        try:
            return self._wait(gen, interval, timeout)
        except psycopg.errors.IdleInTransactionSessionTimeout as error:
            # An InternalError by its SQLSTATE, and yet nothing but a lost connection.
            self.pgconn.finish()
            raise DatabaseSilent("the session was ended while we slept in a transaction") from error

    def _wait(self, gen: PQGen[R], interval: float, timeout: float | None) -> R:
        patience = current() or (None if self.silence is None else Patience(self.silence))
        if patience is None or timeout is not None:
            return super().wait(gen, interval, timeout)
        began = time.monotonic()
        try:
            answer = super().wait(gen, interval, patience.left)
        except _WaitTimeout:
            patience.spend(time.monotonic() - began)
            self.pgconn.finish()
            raise DatabaseSilent(f"no answer within {patience.seconds:g} s") from None
        patience.renew()
        self.heard_at = time.monotonic()
        return answer
