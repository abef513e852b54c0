"""Storing a new task: its row, event 1 and its place in line, in one statement.

A submission is the most frequent write that clients wait for, and each statement of its transaction
costs a round trip and Django's work of building it. So the statement is written once per process from
the model's columns, and also brings back what the database decides: order and times.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import Any

from django.db import connection
from django.db.models import Field, JSONField

from rest.statements import COMMIT, Statement, ask
from tasks.announce import announce_on_commit
from tasks.models import Task
from tasks.selectors.waiting import places_of
from tasks.services.ready import line_up
from tasks.services.transitions import caused
from tasks.states import Status
from tasks.wakeup import wake_on_commit

DECIDED_BY_THE_DATABASE = ("ordinal", "created_at", "queued_at")

STORE = """
WITH stored AS (
  INSERT INTO task ({columns}, queued_at) VALUES ({values}, {queued_at})
  RETURNING id, tenant_id, queue, priority, ordinal, type_version, preemptible, created_at,
            queued_at
), told AS (
  INSERT INTO event (task_id, seq, tenant_id, kind, data)
  SELECT id, 1, tenant_id, 'state', %(facts)s::jsonb FROM stored
){in_line}{counted}
SELECT json_build_array(ordinal, created_at, queued_at) FROM stored
"""
IN_LINE = """, lined AS (
  INSERT INTO ready (task_id, queue, tenant_id, rank, ordinal, epoch, type_id,
                     type_version, preemptible)
  SELECT id, queue, tenant_id, -priority, ordinal, 1, %(type_id)s, type_version, preemptible
    FROM stored
)"""
# In the order in which everybody locks the counters (tasks.services.ready.add_to_backlog).
COUNTED = """, counters AS (
  SELECT b.id FROM backlog b JOIN stored s ON b.tenant_id = s.tenant_id AND b.queue IN ('', s.queue)
   ORDER BY b.tenant_id, b.queue FOR UPDATE OF b
), counted AS (
  UPDATE backlog b SET queued = b.queued + 1 FROM counters WHERE b.id = counters.id
)"""


def store(
    task: Task, facts: Mapping[str, Any], *, type_id: int, counted: bool = False, last: bool = False
) -> Any:
    """Store a new task with ``facts`` in its first event; one that is queued enters its line.

    Its own ``ordinal``, ``created_at`` and ``queued_at`` are set. ``counted``: the counters of its lane
    and tenant grow by it, unlimited. ``last``: nothing follows in the transaction, which is committed
    with it, and the answer to :func:`tasks.selectors.waiting.places_of` is returned. Both are for a task
    that enters its line without a key.
    """
    # A task with a key may have to wait beside its line, so it enters by a statement of its own.
    queued = task.status == Status.QUEUED
    in_line = queued and task.key is None
    task.last_seq = 1
    told = caused({"status": task.status, "from": None, "reason": None, **facts})
    values: dict[str, Any] = {str(field.column): _value(task, field) for field in _given_columns()}
    values |= {"facts": json.dumps(told, ensure_ascii=False), "type_id": type_id}
    storing = _statement(queued, in_line, counted).of(values)
    if last:
        # Whatever becomes of the question behind the COMMIT, the task is stored.
        answer, _, place = ask(storing, COMMIT, then=places_of([task]))
    else:
        (answer,), place = ask(storing), None
    task.ordinal, created_at, queued_at = answer
    task.created_at = datetime.fromisoformat(created_at)
    task.queued_at = None if queued_at is None else datetime.fromisoformat(queued_at)
    task._state.adding, task._state.db = False, connection.alias
    announce_on_commit(task.pk, task.tenant_id, task.last_seq)
    if in_line:
        wake_on_commit(task.queue, task.tenant_id)
    elif queued:
        line_up(task, type_id=type_id, epoch=1)
    return place


def _value(task: Task, field: Field[Any, Any]) -> Any:
    value = getattr(task, field.attname)
    if isinstance(field, JSONField) and value is not None:
        return json.dumps(value, ensure_ascii=False)
    return value


@cache
def _given_columns() -> tuple[Field[Any, Any], ...]:
    fields = Task._meta.concrete_fields
    return tuple(field for field in fields if field.attname not in DECIDED_BY_THE_DATABASE)


@cache
def _statement(queued: bool, in_line: bool, counted: bool) -> Statement:
    columns = [str(field.column) for field in _given_columns()]
    return Statement(
        STORE.format(
            columns=", ".join(columns),
            values=", ".join(f"%({column})s" for column in columns),
            queued_at="statement_timestamp()" if queued else "NULL",
            in_line=IN_LINE if in_line else "",
            counted=COUNTED if counted else "",
        )
    )
