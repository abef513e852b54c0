"""Cancelling and retrying many tasks: in batches, each a transaction of its own, oldest first."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from django.db.models import QuerySet

from rest.errors import Conflict
from rest.ties import again_on_ties
from tasks.errors import QueuedLimit
from tasks.models import Task
from tasks.services.admission import check_lines
from tasks.services.cancel import cancel_alone
from tasks.services.graph import release_children
from tasks.services.ready import one_change
from tasks.services.retry import BECAUSE_OF_A_PARENT, RETRYABLE, retry_task
from tasks.services.transitions import lock_task
from tasks.states import Status, is_terminal
from tenants.limits import WHOLE

BATCH = 100
"""Tasks that are locked together: enough to spare commits, few enough to keep nobody waiting."""


def cancellable(tasks: QuerySet[Task]) -> QuerySet[Task]:
    """Narrow tasks to those that a bulk cancel touches: not ended, and not asked to stop yet."""
    return tasks.filter(finished_at__isnull=True, cancel_requested_at__isnull=True)


def retryable(tasks: QuerySet[Task]) -> QuerySet[Task]:
    """Narrow tasks to those that a bulk retry touches.

    Never what somebody wanted to stop; and what was cancelled because of a parent comes back with
    that parent, not by itself.
    """
    return tasks.filter(status__in=RETRYABLE, cancel_requested_at__isnull=True).exclude(
        status_reason__in=BECAUSE_OF_A_PARENT
    )


def cancel_many(ids: Sequence[uuid.UUID], *, by: str, reason: str = "") -> list[uuid.UUID]:
    """Cancel tasks as :func:`tasks.services.cancel.cancel` does and return those that it changed.

    A task that moved on meanwhile, or whose type cannot be stopped, is left alone. One that a parent
    among them took along has been cancelled all the same.
    """
    changed: list[uuid.UUID] = []
    for batch in _batches(ids):
        changed += _cancel_batch(batch, by, reason)
    return changed


@again_on_ties
def _cancel_batch(ids: Sequence[uuid.UUID], by: str, reason: str) -> list[uuid.UUID]:
    changed, ended = [], []
    with one_change():
        # All of a batch before any descendant: otherwise a child among them would seem to have been
        # cancelled only because of its parent, and would come back with it.
        for task in _locked(ids):
            if task.cancel_requested_at is None and _try_cancel(task, by, reason):
                changed.append(task.pk)
                if task.status == Status.CANCELLED:
                    ended.append(task)
            elif task.status_reason in BECAUSE_OF_A_PARENT:
                changed.append(task.pk)
        release_children(*ended)
    return changed


def retry_many(ids: Sequence[uuid.UUID], *, by: str, reason: str = "") -> list[uuid.UUID]:
    """Retry tasks as :func:`tasks.services.retry.retry` does and return those that it changed.

    A task that moved on meanwhile, that somebody has cancelled, or of which the line is full, is left
    alone.

    Raises:
        QueuedLimit: nothing has changed, because of full lines.
    """
    changed: list[uuid.UUID] = []
    full: dict[str, QueuedLimit] = {}
    for batch in _batches(ids):
        try:
            changed += _retry_batch(batch, by, reason)
        except QueuedLimit:
            # Not all of it fits: as many as do, one by one.
            changed += _retry_while_there_is_room(batch, by, reason, full)
        if WHOLE in full:
            break
    if full and not changed:
        raise next(iter(full.values()))
    return changed


def _retry_while_there_is_room(
    ids: Sequence[uuid.UUID], by: str, reason: str, full: dict[str, QueuedLimit]
) -> list[uuid.UUID]:
    """Retry tasks one by one, and note in ``full`` the lines that turn out to be: by queue, or WHOLE."""
    changed: list[uuid.UUID] = []
    queues = dict(Task.objects.filter(pk__in=ids).values_list("pk", "queue"))
    for task_id in ids:
        if WHOLE in full:
            break
        if queues.get(task_id) in full:
            continue
        try:
            changed += _retry_batch([task_id], by, reason)
        except QueuedLimit as refused:
            full[refused.queue] = refused
    return changed


@again_on_ties
def _retry_batch(ids: Sequence[uuid.UUID], by: str, reason: str) -> list[uuid.UUID]:
    changed = []
    with one_change():
        for task in _locked(ids):
            if task.cancel_requested_at is not None:
                continue
            try:
                retry_task(task, by=by, reason=reason)
            except Conflict:
                continue
            changed.append(task)
        check_lines(changed)
    return [task.pk for task in changed]


def _try_cancel(task: Task, by: str, reason: str) -> bool:
    if is_terminal(task.status):
        return False
    try:
        return cancel_alone(task, by=by, reason=reason, force=False)
    except Conflict:
        return False


def _batches(ids: Sequence[uuid.UUID]) -> list[Sequence[uuid.UUID]]:
    return [ids[start : start + BATCH] for start in range(0, len(ids), BATCH)]


def _locked(ids: Sequence[uuid.UUID]) -> list[Task]:
    """Lock the tasks in the order of their ordinals, which is the order of the ids given."""
    return [lock_task(task_id) for task_id in ids]
