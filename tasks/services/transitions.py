"""Moving a task from one status to another; claims and the ends of runs have statements of their own."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from django.db import connection
from django.db.models import F
from django.db.models.functions import Greatest, Now

from rest.request_id import current_request_id
from tasks.announce import announce_on_commit
from tasks.errors import Moved
from tasks.models import Event, Task, TaskFile
from tasks.states import Reason, Status, is_terminal


def lock_task(task_id: uuid.UUID) -> Task:
    """Return the task, locked until the transaction ends; the first lock of every state change.

    Raises:
        Task.DoesNotExist: there is no such task.
    """
    return Task.objects.select_for_update(of=("self",)).select_related("tenant").get(pk=task_id)


def move(
    task: Task,
    to: Status,
    *,
    reason: str | None = None,
    run: int | None = None,
    facts: Mapping[str, Any] | None = None,
    **columns: Any,
) -> None:
    """Change a locked task's status and write the event that says so.

    ``columns`` are further columns of the task to set; ``facts`` is what the event tells of them, so
    that the events alone rebuild the row. ``finished_at`` follows the status by itself.

    Raises:
        Moved: the row is not in the status that ``task`` shows.
    """
    before = task.status
    columns["status"] = to.value
    columns["status_reason"] = str(reason) if reason else None
    if is_terminal(to):
        # Never before its start, also where the database's clock was set back since.
        columns["finished_at"] = Greatest("started_at", Now())
        columns["next_retry_at"] = None
    elif is_terminal(before):
        columns["finished_at"] = None
    changed = Task.objects.filter(pk=task.pk, status=before, last_seq=task.last_seq).update(
        last_seq=F("last_seq") + 1, **columns
    )
    if changed != 1:
        raise Moved
    task.status, task.status_reason = columns["status"], columns["status_reason"]
    task.last_seq += 1
    if before == Status.ALLOCATED and is_terminal(to):
        _forget_uploads([task])
    _write_event(
        task,
        kind="state",
        run=run,
        data={"status": to.value, "from": before, "reason": task.status_reason, **(facts or {})},
    )


class End(NamedTuple):
    """One of many tasks that end together: why, and what its event tells besides."""

    task: Task
    reason: Reason
    facts: Mapping[str, Any]


END_MANY = """
UPDATE task
   SET status = %(to)s, status_reason = ended.reason, last_seq = task.last_seq + 1,
       finished_at = greatest(task.started_at, statement_timestamp()), next_retry_at = NULL
  FROM unnest(%(ids)s::uuid[], %(reasons)s::text[], %(seqs)s::bigint[]) AS ended(id, reason, seq)
 WHERE task.id = ended.id AND task.last_seq = ended.seq
"""


def end_many(ends: Sequence[End], to: Status) -> None:
    """Move many locked tasks to one end, as :func:`move` would each, in two statements.

    Raises:
        Moved: a row is not as its task shows it.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            END_MANY,
            {
                "to": to.value,
                "ids": [end.task.pk for end in ends],
                "reasons": [end.reason.value for end in ends],
                "seqs": [end.task.last_seq for end in ends],
            },
        )
        if cursor.rowcount != len(ends):
            raise Moved
    _forget_uploads([end.task for end in ends if end.task.status == Status.ALLOCATED])
    events = []
    for task, reason, facts in ends:
        data = caused({"status": to.value, "from": task.status, "reason": reason.value, **facts})
        task.status, task.status_reason, task.last_seq = to.value, reason.value, task.last_seq + 1
        events.append(
            Event(task_id=task.pk, seq=task.last_seq, tenant_id=task.tenant_id, kind="state", data=data)
        )
        announce_on_commit(task.pk, task.tenant_id, task.last_seq)
    Event.objects.bulk_create(events)


def _forget_uploads(tasks: Sequence[Task]) -> None:
    """Remove what was uploaded for tasks that end before they were let go: they will never run."""
    if tasks:
        TaskFile.objects.filter(task__in=tasks).delete()


def note(task: Task, kind: str, data: Mapping[str, Any], *, run: int | None = None) -> None:
    """Write an event about a locked task without changing its status."""
    changed = Task.objects.filter(pk=task.pk, last_seq=task.last_seq).update(last_seq=F("last_seq") + 1)
    if changed != 1:
        raise Moved
    task.last_seq += 1
    _write_event(task, kind=kind, run=run, data=data)


def caused(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return an event's data with the request that it is due to; workers and dispatchers have none."""
    request_id = current_request_id()
    return {**data, "request_id": request_id} if request_id else dict(data)


def _write_event(task: Task, *, kind: str, run: int | None, data: Mapping[str, Any]) -> None:
    Event.objects.create(
        task_id=task.pk,
        seq=task.last_seq,
        tenant_id=task.tenant_id,
        kind=kind,
        run=run,
        data=caused(data),
    )
    announce_on_commit(task.pk, task.tenant_id, task.last_seq)
