"""Statements that every run pays for: values written in, sent together, answered in JSON.

A supervisor is a fresh fork that lives for one run. What Django and psycopg do around a statement
(cursors, adapters, one question for BEGIN and one for COMMIT) costs it more than the statement does,
because every page of code and data that it touches is copied first. So here the values become
literals, escaped by libpq, what belongs together is one question in PostgreSQL's simple query protocol,
and each statement answers with at most one row of one JSON value.

PostgreSQL would read and plan such a text anew for each run, which takes it longer than to do it. So a
session of the pooler (:mod:`ops.pools.pooler`) has the most frequent ones prepared, and says which: of
those only the name and the values are sent. A session that lasts prepares each when it is asked first.

It happens on this thread's Django connection, in the transaction that Django has open if there is one,
with Django's exceptions and our patience (:mod:`rest.patience`).
"""

from __future__ import annotations

import hashlib
import math
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from django.db import DEFAULT_DB_ALIAS, DatabaseError, InterfaceError, connection, connections
from psycopg import generators, pq
from psycopg.errors import error_from_result

from rest.patience import PREPARED, PatientConnection
from rest.strict_json import scan_own

BEGIN, COMMIT, ROLLBACK = b"BEGIN", b"COMMIT", b"ROLLBACK"
PLACE = re.compile(r"%\((\w+)\)s")


class Statement:
    """A statement with named places, ``%(name)s``; nothing else in it is looked at.

    ``name`` is another one for every other text: beside an older version of us, each has its own.
    """

    def __init__(self, query: str) -> None:
        first, *rest = PLACE.split(query.strip())
        self._first = first.encode()
        self._rest = [(name, text.encode()) for name, text in zip(rest[::2], rest[1::2], strict=True)]
        self._places = list(dict.fromkeys(rest[::2]))
        self.name = f"switchyard_{hashlib.sha256(query.encode()).hexdigest()[:16]}"
        self._name = self.name.encode()

    def preparation(self) -> str:
        """Return what prepares it in a session; PostgreSQL finds the values' types by their places."""
        numbers = {name: f"${number}" for number, name in enumerate(self._places, 1)}
        text = "".join(f"{numbers[name]}{text.decode()}" for name, text in self._rest)
        return f"PREPARE {self.name} AS {self._first.decode()}{text}"

    def of(self, values: Mapping[str, object]) -> bytes:
        """Return it with these values in its places, for :func:`ask`; others are left out.

        Raises:
            KeyError: a place has no value.
            ValueError: a text has a NUL, which PostgreSQL cannot store.
            django.db.Error: it was to be prepared, and PostgreSQL refused.
        """
        session = _session()
        escape = pq.Escaping(session.pgconn).escape_literal
        if self._is_prepared(session):
            given = b",".join(_literal(values[name], escape) for name in self._places)
            return b"EXECUTE %s%s" % (self._name, b"(%s)" % given if given else b"")
        parts = [self._first]
        for name, text in self._rest:
            parts += (_literal(values[name], escape), text)
        return b"".join(parts)

    def _is_prepared(self, session: PatientConnection) -> bool:
        if session.prepared is None:
            session.prepared = frozenset((session.pgconn.parameter_status(PREPARED) or b"").split())
        if session.lasting and self._name not in session.prepared:
            with connection.wrap_database_errors:
                session.pgconn.send_query(self.preparation().encode())
                for result in session.wait(generators.execute(session.pgconn)):
                    _answer(result)
            session.prepared |= {self._name}
        return self._name in session.prepared


def ask(*statements: bytes, then: bytes = b"") -> list[Any]:
    """Send statements in one question and return the JSON value of each; None where there is no row.

    Outside of a transaction they are one of their own, up to a COMMIT among them. ``then`` is asked
    behind them all; if PostgreSQL refuses that one alone, its answer is None.

    Raises:
        django.db.Error: as for any statement; those behind the one that failed are not done.
    """
    session = _session()
    begun = session.autocommit or session.pgconn.transaction_status != pq.TransactionStatus.IDLE
    question = [*(() if begun else (BEGIN,)), *statements, *((then,) if then else ())]
    with connection.wrap_database_errors:
        session.pgconn.send_query(b";\n".join(question))
        results = session.wait(generators.execute(session.pgconn))
        if then and len(results) == len(question) and results[-1].status == pq.ExecStatus.FATAL_ERROR:
            answers = [*(_answer(result) for result in results[:-1]), None]
        else:
            answers = [_answer(result) for result in results]
    return answers if begun else answers[1:]


@contextmanager
def in_questions() -> Iterator[None]:
    """Roll back what was begun by a BEGIN among the questions of this block, and not ended by a COMMIT.

    Such a transaction is none of Django's, which would call thirty functions for it. So nothing of
    Django's may be asked in it, nor may it begin where one of Django's is open.
    """
    try:
        yield
    finally:
        session: Any = connection.connection
        if session is not None and session.pgconn.transaction_status != pq.TransactionStatus.IDLE:
            try:
                ask(ROLLBACK)
            except (DatabaseError, InterfaceError):
                connection.close()


def outermost() -> bool:
    """Return whether Django's transaction ends with the block that began last."""
    return connection.in_atomic_block and not connection.savepoint_ids


def _session() -> PatientConnection:
    # Not by `connection`, which looks for it at each word.
    ours: Any = connections[DEFAULT_DB_ALIAS]
    ours.validate_no_broken_transaction()
    if ours.connection is None:
        ours.ensure_connection()
    session = ours.connection
    assert isinstance(session, PatientConnection)  # noqa: S101 - config.postgresql makes no other
    return session


def _answer(result: Any) -> Any:
    if result.status == pq.ExecStatus.TUPLES_OK:
        value = result.get_value(0, 0) if result.ntuples else None
        # A function without a result gives an empty text.
        return scan_own(value.decode(), 0)[0] if value else None
    if result.status == pq.ExecStatus.COMMAND_OK:
        return None
    raise error_from_result(result)


def _literal(value: object, escape: Callable[[bytes], bytes]) -> bytes:
    """Return a value as SQL writes it."""
    if value is None:
        return b"NULL"
    if isinstance(value, bool):
        return b"TRUE" if value else b"FALSE"
    if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return f" {value!r} ".encode()  # with room before a minus sign
    written = str(value).encode()
    if b"\0" in written:
        raise ValueError("A text has a NUL.")
    quoted = escape(written)
    if isinstance(value, uuid.UUID):
        return quoted + b"::uuid"
    if isinstance(value, datetime):
        return quoted + b"::timestamptz"
    return quoted
