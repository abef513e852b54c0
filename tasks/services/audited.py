"""Cancel and retry as a caller asks for them: what changes, and its entry in the trail, together."""

from __future__ import annotations

from django.db import transaction

from audit.services import record
from rest.ties import again_on_ties
from tasks.models import Task
from tasks.services.cancel import Cancelled, cancel
from tasks.services.retry import retry
from tenants.actor import Actor


@again_on_ties
def audited_cancel(actor: Actor, task: Task, *, reason: str = "", force: bool = False) -> Cancelled:
    """Cancel a task as :func:`tasks.services.cancel.cancel` does; every kill is written down.

    Raises:
        TaskFinished, NotCancellable
    """
    with transaction.atomic():
        cancelled = cancel(task.pk, by=actor.name, reason=reason, force=force)
        if cancelled.changed or force:
            _record(actor, "task.cancel", task, reason, {"force": True} if force else {})
    return cancelled


@again_on_ties
def audited_retry(actor: Actor, task: Task, *, reason: str = "") -> Task:
    """Retry a task as :func:`tasks.services.retry.retry` does.

    Raises:
        NotRetryable, ParentsFirst, InputsLost, KeyConflict, QueuedLimit
    """
    with transaction.atomic():
        renewed = retry(task.pk, by=actor.name, reason=reason)
        _record(actor, "task.retry", task, reason, {})
    return renewed


def _record(actor: Actor, action: str, task: Task, reason: str, data: dict[str, bool]) -> None:
    record(
        actor=actor.name,
        action=action,
        object=f"task:{task.pk}",
        tenant_id=task.tenant_id,
        reason=reason or actor.reason,
        data=data,
    )
