"""Counting what PostgreSQL is asked, by Django and by `rest.statements` alike, and what it reads."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection

from rest.patience import PatientConnection


@contextmanager
def questions() -> Iterator[list[None]]:
    """Give a list that grows by one with each question of this process while the block lasts."""
    asked: list[None] = []
    wait = PatientConnection.wait

    def waiting(gen: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        try:
            wanted = gen.send(None)
            asked.append(None)  # what never waits (a COMMIT that is done already) asks nothing
            while True:
                wanted = gen.send((yield wanted))
        except StopIteration as end:
            return end.value

    def counted(session: PatientConnection, gen: Any, *times: float) -> Any:
        return wait(session, waiting(gen), *times)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PatientConnection, "wait", counted)
        yield asked


def rows_read(table: str) -> int:
    """Return how many rows of a table this transaction has read."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT seq_tup_read + coalesce(idx_tup_fetch, 0) FROM pg_stat_xact_user_tables"
            " WHERE relname = %s",
            [table],
        )
        return int(cursor.fetchall()[0][0])
