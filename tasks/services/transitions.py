"""Moving a task from one status to another: the one place where ``status`` is written."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from django.db.models import F
from django.db.models.functions import Now

from tasks.announce import announce_on_commit
from tasks.errors import Moved
from tasks.models import Event, Task, TaskFile
from tasks.states import Status, is_terminal


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
        columns["finished_at"] = Now()
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
        # It will never run, so what was uploaded for it goes.
        TaskFile.objects.filter(task=task).delete()
    _write_event(
        task,
        kind="state",
        run=run,
        data={"status": to.value, "from": before, "reason": task.status_reason, **(facts or {})},
    )


def note(task: Task, kind: str, data: Mapping[str, Any], *, run: int | None = None) -> None:
    """Write an event about a locked task without changing its status."""
    changed = Task.objects.filter(pk=task.pk, last_seq=task.last_seq).update(last_seq=F("last_seq") + 1)
    if changed != 1:
        raise Moved
    task.last_seq += 1
    _write_event(task, kind=kind, run=run, data=data)


def _write_event(task: Task, *, kind: str, run: int | None, data: Mapping[str, Any]) -> None:
    Event.objects.create(
        task_id=task.pk,
        seq=task.last_seq,
        tenant_id=task.tenant_id,
        kind=kind,
        run=run,
        data=dict(data),
    )
    announce_on_commit(task.pk, task.tenant_id, task.last_seq)
