"""Moving waiting tasks on: a time has come, inputs are complete, or a parent has ended."""

from __future__ import annotations

import heapq
import uuid
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models.functions import Now

from rest.ties import again_on_ties
from tasks.clock import database_now
from tasks.models import Inflight, Later, Task
from tasks.services.ready import join_line, leave_line
from tasks.services.transitions import lock_task, move
from tasks.states import TERMINAL, Reason, Status, parent_reason


def enter_line(
    task: Task,
    *,
    reason: str | None = None,
    run: int | None = None,
    facts: Mapping[str, Any] | None = None,
    **columns: Any,
) -> None:
    """Move a locked task to ``queued`` and put it in its lane for its next attempt.

    The arguments are those of :func:`tasks.services.transitions.move`.
    """
    move(
        task,
        Status.QUEUED,
        reason=reason,
        run=run,
        facts=facts,
        queued_at=Now(),
        next_retry_at=None,
        **columns,
    )
    join_line(task)


def let_go(task: Task, *, facts: Mapping[str, Any]) -> None:
    """Move a locked task on that has all its inputs: ``scheduled``, ``blocked`` or ``queued``.

    Its upload deadline is over, and a queue timeout begins to count. Whether its lane has room is
    the caller's to check.
    """
    Later.objects.filter(task_id=task.pk, what="upload").delete()
    now = database_now()
    due = []
    starts = task.scheduled_for if task.scheduled_for and task.scheduled_for > now else None
    deadline = queue_deadline(now, task.scheduled_for, task.queue_timeout)
    if starts is not None:
        move(task, Status.SCHEDULED, facts=facts, deadline_at=deadline)
        due.append(Later(task_id=task.pk, due_at=starts, what="start"))
    else:
        proceed(task, facts=facts, deadline_at=deadline)
    if deadline is not None and task.status not in TERMINAL:
        due.append(Later(task_id=task.pk, due_at=deadline, what="queue_timeout"))
    Later.objects.bulk_create(due)


def queue_deadline(
    now: datetime, scheduled_for: datetime | None, queue_timeout: float | None
) -> datetime | None:
    """Return when a task that may wait ``queue_timeout`` seconds from its start time on is dropped."""
    if queue_timeout is None:
        return None
    return max(scheduled_for or now, now) + timedelta(seconds=queue_timeout)


def proceed(task: Task, *, facts: Mapping[str, Any] | None = None, **columns: Any) -> None:
    """Move a locked task that waits no longer for time or inputs on, to ``blocked`` or ``queued``."""
    unfinished = task.dependencies.exclude(parent__status=Status.COMPLETED.value)
    if task.on_parent_failure == "run":
        unfinished = unfinished.filter(parent__finished_at__isnull=True)
    if not unfinished.exists():
        enter_line(task, facts=facts, **columns)
    elif task.status != Status.BLOCKED:
        move(task, Status.BLOCKED, facts=facts, **columns)
        _cancel_if_a_parent_failed(task)


def release_children(parent: Task) -> None:
    """Let the end of a locked task take effect on all that wait for it, through the whole graph.

    Children are taken in order of submission. A child's ordinal is above its parents', so every
    process locks downwards in one order and none can block another for ever.
    """
    reached: list[tuple[int, uuid.UUID]] = []
    _push_children(parent, reached)
    seen = set()
    while reached:
        _, task_id = heapq.heappop(reached)
        if task_id in seen:
            continue
        seen.add(task_id)
        child = lock_task(task_id)
        if child.status == Status.BLOCKED:
            proceed(child)
            if child.status == Status.BLOCKED:
                _cancel_if_a_parent_failed(child)
        elif child.status in (Status.SCHEDULED, Status.ALLOCATED):
            _cancel_if_a_parent_failed(child)
        if child.status in TERMINAL:
            _push_children(child, reached)


def settle(child: Task) -> None:
    """Treat a new child of a parent that has ended already as if the child had come before."""
    if child.status in (Status.BLOCKED, Status.SCHEDULED, Status.ALLOCATED):
        _cancel_if_a_parent_failed(child)


@again_on_ties
def due(task_id: uuid.UUID, what: str) -> bool:
    """Do what the clock has to do for a task; return whether anything changed.

    A row of ``later`` is only a reminder: what the task's own row says decides, so a reminder that
    comes twice, or after the task has moved on, does nothing.
    """
    with transaction.atomic():
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
            _drop(task, Reason.UPLOAD_TIMEOUT)
        elif what == "queue_timeout" and _never_started(task):
            _drop(task, Reason.QUEUE_TIMEOUT)
        else:
            return False
    return True


def _never_started(task: Task) -> bool:
    waiting = (Status.SCHEDULED, Status.BLOCKED, Status.QUEUED)
    return task.status in waiting and task.attempt == 0


def _drop(task: Task, reason: Reason) -> None:
    leave_line(task)
    Inflight.objects.filter(pk=task.pk).delete()
    Later.objects.filter(task_id=task.pk).delete()
    move(task, Status.DROPPED, reason=reason, facts={"started": task.attempt > 0})
    release_children(task)


def _cancel_if_a_parent_failed(child: Task) -> None:
    if child.on_parent_failure == "run":
        return
    ended = (
        Task.objects.filter(dependents__child=child, finished_at__isnull=False)
        .exclude(status=Status.COMPLETED.value)
        .order_by("finished_at")
        .first()
    )
    if ended is None:
        return
    Later.objects.filter(task_id=child.pk).delete()
    move(
        child,
        Status.CANCELLED,
        reason=parent_reason(ended.status),
        facts={"parent": str(ended.pk)},
    )


def _push_children(parent: Task, reached: list[tuple[int, uuid.UUID]]) -> None:
    for pair in parent.dependents.values_list("child__ordinal", "child_id"):
        heapq.heappush(reached, pair)
