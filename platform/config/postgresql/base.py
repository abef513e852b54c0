"""The database backend: Django's own, over :class:`rest.patience.PatientConnection`.

Two keys of ``DATABASES`` are ours: ``SILENCE`` is the seconds for which a statement outside a request
waits for an answer (None: for ever), and ``FORKED`` tells that each process lives for one run, forked
from one that has prepared what it can.

A pooled connection is looked at before it is handed out. A server that ends a session says so, which is
seen without asking it; one that vanished does not, so whoever has been silent for long is asked. Where
one turns out to be dead, the server has probably restarted and all are: the pool is emptied at once,
because its own check throws them away one by one with growing pauses in between, which no request lives
to see (24 of them: minutes).

While the server is silent each waiting request is a thread, so only so many may wait and the others
hear 503 at once. The pool's own ``max_waiting`` counts those that have given up, too, and a pool
that is empty and full of them never connects again (psycopg_pool 3.3; a test holds the case).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cached_property
from threading import Lock
from typing import Any

import psycopg
from django.db.backends.postgresql import base
from django.db.backends.postgresql.psycopg_any import IsolationLevel
from psycopg.conninfo import make_conninfo

from config.postgresql.inherited import Inherited
from rest.patience import DatabaseSilent, Patience, PatientConnection, current, patient

HEARD_SECONDS = 1.0
"""A pooled connection whose server has answered since then need not be asked whether it lives."""

WAITING_PER_CONNECTION = 8
"""Requests that may wait for each pooled connection."""

_waiting = 0
_counted = Lock()
_emptied = Lock()
_emptied_at = 0.0


class DatabaseWrapper(base.DatabaseWrapper):
    """One thread's connection."""

    _inherited: Inherited | None = None

    def connect(self) -> None:
        """Connect: in a fork, the first time, with what it has inherited for that."""
        inherited, self._inherited = self._inherited, None
        connection = inherited.connect() if inherited else None
        if connection is None:
            super().connect()
        else:
            self.connection = connection

    def get_new_connection(self, conn_params: dict[str, Any]) -> PatientConnection:
        """Connect, or take a connection from the pool, within what is left of the patience.

        Raises:
            DatabaseSilent: this request has waited in vain before, and does not begin anew.
        """
        patience = current()
        if patience is not None and not patience.left:
            raise DatabaseSilent("the database was silent a moment ago")
        # As Django's own does where no isolation level is set.
        self.isolation_level = IsolationLevel.READ_COMMITTED
        if self.pool is None:
            if self.settings_dict.get("FORKED"):
                connection = PatientConnection.directly(self._conninfo, conn_params["context"])
                connection.cursor_factory = conn_params["cursor_factory"]
            else:
                connection = PatientConnection.connect(**conn_params)
            self._tell(connection)
            return connection
        self.pool.open()
        with nullcontext(patience) if patience else patient(self.pool.timeout) as bound:
            return self._pooled(bound)

    def _tell(self, connection: PatientConnection) -> None:
        connection.silence = self.settings_dict.get("SILENCE")
        connection.lasting = bool(self.settings_dict.get("LASTING"))

    def bequeath(self) -> None:
        """Leave all that a connection needs but its socket to processes that are forked from this one.

        Raises:
            django.db.Error: none can be made now.
        """
        self.ensure_connection()
        self.connection, connection = None, self.connection
        self._inherited = Inherited.of(
            connection, seconds=self.settings_dict["OPTIONS"]["connect_timeout"]
        )

    @cached_property
    def _conninfo(self) -> bytes:
        """The parameters of the connection as libpq reads them."""
        psycopgs = ("context", "cursor_factory", "prepare_threshold")
        params = {k: v for k, v in self.get_connection_params().items() if k not in psycopgs}
        return make_conninfo("", **params).encode()

    def check_database_version_supported(self) -> None:
        """Look at the server's version, where a process lives long enough to care."""
        if not self.settings_dict.get("FORKED"):
            super().check_database_version_supported()

    def _pooled(self, patience: Patience) -> PatientConnection:
        """Return a living connection of the pool."""
        while True:
            began = time.monotonic()
            try:
                with _place_to_wait(self.pool.max_size * (1 + WAITING_PER_CONNECTION)):
                    connection: PatientConnection = self.pool.getconn(timeout=patience.left)
            except psycopg.OperationalError:
                patience.spend(time.monotonic() - began)
                raise
            try:
                if connection.has_news() or time.monotonic() - connection.heard_at > HEARD_SECONDS:
                    connection.execute("")
            except psycopg.Error:
                self.pool.putconn(connection)
                self._empty_pool(connection)
            else:
                return connection

    def _empty_pool(self, dead: PatientConnection) -> None:
        """Replace every pooled connection, unless that was done after ``dead`` was made."""
        global _emptied_at
        with _emptied:
            if dead.made_at < _emptied_at:
                return
            _emptied_at = time.monotonic()
        self.pool.drain()

    def _configure_connection(self, connection: PatientConnection) -> bool:
        self._tell(connection)
        # The stubs do not know it: Django calls it for each connection that its pool makes.
        return bool(super()._configure_connection(connection))  # type: ignore[misc]


@contextmanager
def _place_to_wait(places: int) -> Iterator[None]:
    """Take one of the places before the pool.

    Raises:
        DatabaseSilent: all are taken.
    """
    global _waiting
    with _counted:
        if _waiting >= places:
            raise DatabaseSilent("too many requests wait for the database")
        _waiting += 1
    try:
        yield
    finally:
        with _counted:
            _waiting -= 1
