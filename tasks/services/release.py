"""Moving waiting tasks on: a time has come, or their inputs are complete."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from django.db.models.functions import Now

from rest.ties import again_on_ties
from tasks.clock import database_now
from tasks.models import Inflight, Later, Task
from tasks.services.graph import proceed, release_children
from tasks.services.later import queue_deadline, remember_due
from tasks.services.ready import enter_line, leave_line, one_change
from tasks.services.transitions import lock_task, move
from tasks.states import TERMINAL, Reason, Status


def let_go(task: Task, *, facts: Mapping[str, Any]) -> None:
    """Move a locked task on that has all its inputs: ``scheduled``, ``blocked`` or ``queued``.

    Its upload deadline is over, and a queue timeout begins to count. Whether its lane has room is
    the caller's to check.
    """
    Later.objects.filter(task_id=task.pk, what="upload").delete()
    task.deadline_at = queue_deadline(task.queue_timeout, task.scheduled_for)
    if task.scheduled_for is not None and task.scheduled_for > database_now():
        move(task, Status.SCHEDULED, facts=facts, deadline_at=task.deadline_at)
    else:
        proceed(task, facts=facts, deadline_at=task.deadline_at)
    if task.status not in TERMINAL:
        remember_due(task)


@again_on_ties
def due(task_id: uuid.UUID, what: str) -> bool:
    """Do what the clock has to do for a task; return whether anything changed.

    A row of ``later`` is only a reminder: what the task's own row says decides, so a reminder that
    comes twice, or after the task has moved on, does nothing.
    """
    with one_change():
        try:
            task = lock_task(task_id)
        except Task.DoesNotExist:
            Later.objects.filter(task_id=task_id).delete()
            return False
        removed, _ = Later.objects.filter(task_id=task_id, what=what, due_at__lte=Now()).delete()
        if not removed:
            return False
        if what == "start" and task.status == Status.SCHEDULED:
            proceed(task)
        elif what == "retry" and task.status == Status.RETRY_WAIT:
            enter_line(task, reason=Reason.RETRIED)
        elif what == "upload" and task.status == Status.ALLOCATED:
            drop(task, Reason.UPLOAD_TIMEOUT)
        elif what == "queue_timeout" and _never_started(task):
            drop(task, Reason.QUEUE_TIMEOUT)
        else:
            return False
    return True


def _never_started(task: Task) -> bool:
    """Whether no run of this life has begun; a task that waits for a worker again has started."""
    return task.status in (Status.SCHEDULED, Status.BLOCKED, Status.QUEUED) and task.started_at is None


def drop(task: Task, reason: Reason) -> None:
    """Give a locked waiting task up; its event says whether a run of this life had begun."""
    leave_line(task)
    Inflight.objects.filter(pk=task.pk).delete()
    Later.objects.filter(task_id=task.pk).delete()
    move(task, Status.DROPPED, reason=reason, facts={"started": task.started_at is not None})
    release_children(task)
