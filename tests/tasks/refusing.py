"""Rows that PostgreSQL refuses to change, as damaged ones would be."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from django.db import connection

from tasks.models import Task

REFUSE = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'refused' USING ERRCODE = 'numeric_value_out_of_range';
END $$;
CREATE TRIGGER refuse BEFORE UPDATE ON {table} FOR EACH ROW WHEN (OLD.{key} = '{id}')
  EXECUTE FUNCTION refuse()
"""

Refuse = Callable[[str, str, Task], None]


@pytest.fixture
def refuse() -> Iterator[Refuse]:
    """Have PostgreSQL refuse every change of one task's row."""

    def begin(table: str, key: str, task: Task) -> None:
        with connection.cursor() as cursor:
            cursor.execute(REFUSE.format(table=table, key=key, id=task.pk))

    yield begin
    forgive()


def forgive() -> None:
    """Let the rows be changed again."""
    with connection.cursor() as cursor:
        cursor.execute("DROP FUNCTION IF EXISTS refuse CASCADE")
