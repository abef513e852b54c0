"""Storing a new task: its row, event 1 and its place in line, in one statement.

A submission is the most frequent write that clients wait for, and each statement of its transaction
costs a round trip and Django's work of building it. So the statement is written once per process from
the model's columns, and also brings back what the database decides: order, times, and the limits that
the submission is counted against.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from django.db import connection
from django.db.models import Field
from psycopg.types.json import Jsonb

from tasks.announce import announce_on_commit
from tasks.models import Task
from tasks.services.ready import line_up
from tasks.states import Status
from tasks.wakeup import wake_on_commit
from tenants.selectors import LIMIT_ROWS, limits_shape

DECIDED_BY_THE_DATABASE = ("ordinal", "created_at", "queued_at")

STORE = """
WITH stored AS (
  INSERT INTO task ({columns}, queued_at) VALUES ({values}, {queued_at})
  RETURNING id, tenant_id, queue, priority, ordinal, type_version, preemptible, created_at,
            queued_at
), told AS (
  INSERT INTO event (task_id, seq, tenant_id, kind, data)
  SELECT id, 1, tenant_id, 'state', %s FROM stored
){in_line}
SELECT ordinal, created_at, queued_at, (SELECT jsonb_agg(to_jsonb(l)) FROM ({limits}) l) FROM stored
"""
IN_LINE = """, lined AS (
  INSERT INTO ready (task_id, queue, tenant_id, rank, ordinal, epoch, type_id,
                     type_version, preemptible)
  SELECT id, queue, tenant_id, -priority, ordinal, 1, %s, type_version, preemptible FROM stored
)"""


def store(task: Task, facts: Mapping[str, Any], *, type_id: int) -> dict[str, Any]:
    """Store a new task with ``facts`` in its first event; one that is queued enters its line.

    Its own ``ordinal``, ``created_at`` and ``queued_at`` are set. Returns the tenant's limits, in the
    shape of ``PUT /limits``, as they are at this moment.
    """
    # A task with a key may have to wait beside its line, so it enters by a statement of its own.
    queued = task.status == Status.QUEUED
    in_line = queued and task.key is None
    task.last_seq = 1
    values = [
        field.get_db_prep_save(getattr(task, field.attname), connection) for field in _given_columns()
    ]
    values.append(Jsonb({"status": task.status, "from": None, "reason": None, **facts}))
    if in_line:
        values.append(type_id)
    with connection.cursor() as cursor:
        cursor.execute(_statement(queued, in_line), [*values, task.tenant_id])
        row = cursor.fetchone()
    assert row is not None  # noqa: S101 - an INSERT that is refused raises
    task.ordinal, task.created_at, task.queued_at = row[:3]
    task._state.adding, task._state.db = False, connection.alias
    announce_on_commit(task.pk, task.tenant_id, task.last_seq)
    if in_line:
        wake_on_commit(task.queue, task.tenant_id)
    elif queued:
        line_up(task, type_id=type_id, epoch=1)
    return limits_shape(json.loads(row[3] or "[]"))


@cache
def _given_columns() -> tuple[Field[Any, Any], ...]:
    fields = Task._meta.concrete_fields
    return tuple(field for field in fields if field.attname not in DECIDED_BY_THE_DATABASE)


@cache
def _statement(queued: bool, in_line: bool) -> str:
    columns = _given_columns()
    return STORE.format(
        columns=", ".join(str(field.column) for field in columns),
        values=", ".join(["%s"] * len(columns)),
        queued_at="statement_timestamp()" if queued else "NULL",
        in_line=IN_LINE if in_line else "",
        limits=LIMIT_ROWS,
    )
