"""A long backlog in seconds: copies of a task that was submitted over HTTP.

A hundred thousand submissions would take a quarter of an hour. One is made as any other, while its
queue is paused; then its rows (task, first event, place in line) are copied in the database, column by
column as they are, with new ids and ordinals. Every copy runs as the original does.
"""

from __future__ import annotations

import uuid
from typing import Any

import psycopg

ROWS = {"task": "id", "event": "task_id", "ready": "task_id"}
COLUMNS = """
SELECT column_name FROM information_schema.columns
 WHERE table_schema = current_schema() AND table_name = %s AND is_generated = 'NEVER'
 ORDER BY ordinal_position
"""


def multiply(database: psycopg.Connection[Any], task: str, count: int) -> None:
    """Make ``count`` copies of a queued task; the caller then tells the dispatcher to look.

    Raises:
        RuntimeError: when the task is not in line any more, so that nothing can be copied.
    """
    columns = {table: _columns(database, table) for table in ROWS}
    task_columns = [name for name in columns["task"] if name not in ("id", "ordinal")]
    event_columns = [name for name in columns["event"] if name != "task_id"]
    ready_columns = [name for name in columns["ready"] if name not in ("task_id", "ordinal")]
    made = database.execute(
        f"""
        WITH made AS (
          INSERT INTO task (id, {_list(task_columns)})
          SELECT uuidv7(), {_list(task_columns, "t")} FROM task t, generate_series(1, %(count)s)
           WHERE t.id = %(task)s AND t.status = 'queued'
          RETURNING id, ordinal
        ), told AS (
          INSERT INTO event (task_id, {_list(event_columns)})
          SELECT made.id, {_list(event_columns, "e")} FROM made, event e WHERE e.task_id = %(task)s
        )
        INSERT INTO ready (task_id, ordinal, {_list(ready_columns)})
        SELECT made.id, made.ordinal, {_list(ready_columns, "r")}
          FROM made, ready r WHERE r.task_id = %(task)s
        """,
        {"count": count, "task": uuid.UUID(task)},
    ).rowcount
    if made != count:
        raise RuntimeError(f"{made} of {count} copies were made of task {task}: is its queue paused?")


def _columns(database: psycopg.Connection[Any], table: str) -> list[str]:
    return [name for (name,) in database.execute(COLUMNS, [table]).fetchall()]


def _list(names: list[str], of: str = "") -> str:
    return ", ".join(f'{of}."{name}"' if of else f'"{name}"' for name in names)
