"""Cancelling: a waiting task ends at once, a running one is asked to stop."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from django.db.models.functions import Now

from rest.ties import again_on_ties
from tasks.errors import NotCancellable, TaskFinished
from tasks.models import Inflight, Later, Task, TaskType
from tasks.services.graph import release_children
from tasks.services.ready import leave_line, one_change
from tasks.services.transitions import lock_task, move, note
from tasks.states import Reason, Status
from tasks.wakeup import wake_on_commit


@dataclass(frozen=True, slots=True)
class Cancelled:
    """``changed`` is True only for the call that set the request."""

    changed: bool
    task: Task


@again_on_ties
def cancel(task_id: uuid.UUID, *, by: str, reason: str = "", force: bool = False) -> Cancelled:
    """Cancel a task in a transaction of its own; see :func:`cancel_task`."""
    with one_change():
        task = lock_task(task_id)
        changed = cancel_task(task, by=by, reason=reason, force=force)
    task.refresh_from_db()
    return Cancelled(changed, task)


def cancel_task(
    task: Task, *, by: str, reason: str, force: bool, why: Reason = Reason.USER_CANCELLED
) -> bool:
    """Cancel a locked task and, where that ended it, its descendants; inside ``one_change``.

    The arguments and errors are those of :func:`cancel_alone`.
    """
    changed = cancel_alone(task, by=by, reason=reason, force=force, why=why)
    if task.status == Status.CANCELLED:
        release_children(task)
    return changed


def cancel_alone(
    task: Task, *, by: str, reason: str, force: bool, why: Reason = Reason.USER_CANCELLED
) -> bool:
    """Cancel a locked task, not yet those that wait for it; return whether this changed anything.

    The task's row is locked, as it is by a claim and by an end, so exactly one of them comes first.
    ``force`` kills a running handler at once, also one whose type cannot be cancelled. ``reason`` is
    the caller's text, ``why`` the status reason that the task ends with.

    Raises:
        TaskFinished: it has ended.
        NotCancellable: it runs, its type cannot be stopped, and force was not asked for.
    """
    if task.finished_at is not None:
        raise TaskFinished(task.status)
    if task.status == Status.RUNNING:
        return _ask(task, by=by, reason=reason, force=force, why=why)
    leave_line(task)
    Inflight.objects.filter(pk=task.pk).delete()
    Later.objects.filter(task_id=task.pk).delete()
    move(
        task,
        Status.CANCELLED,
        reason=why,
        facts={"by": by, "note": reason},
        cancel_requested_at=Now(),
        cancel_requested_by=by,
        cancel_reason=reason,
        cancel_why=why,
    )
    wake_on_commit(task.queue, task.tenant_id)
    return True


def _ask(task: Task, *, by: str, reason: str, force: bool, why: Reason) -> bool:
    """Leave the request where the supervisor looks; it acts, and its end decides the status."""
    if not force:
        if task.cancel_requested_at is not None:
            return False
        if not TaskType.objects.filter(name=task.type, cancellable=True).exists():
            raise NotCancellable(task.type)
    asked = Inflight.objects.filter(pk=task.pk, state="running").update(
        ask="kill" if force else "cancel"
    )
    first = task.cancel_requested_at is None
    if first:
        Task.objects.filter(pk=task.pk).update(
            cancel_requested_at=Now(),
            cancel_requested_by=by,
            cancel_reason=reason,
            cancel_why=why,
        )
    if first or force:
        note(
            task,
            "note",
            {"cancel_requested": True, "by": by, "note": reason, "force": force},
            run=task.attempt,
        )
    return first and bool(asked)
