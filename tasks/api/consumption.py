"""Remembering that a submitter has seen how its task ended."""

from __future__ import annotations

from django.db.models.functions import Now

from tasks.models import Task
from tasks.selectors.tasks import is_submitter
from tasks.states import is_terminal
from tenants.actor import Actor


def mark_consumed(actor: Actor, task: Task) -> None:
    """Note that ``actor`` has read ``task``, if it has ended and is the actor's own.

    The first reading counts. A new life that began meanwhile is not consumed: hence the status in
    the condition.
    """
    if task.consumed_at is not None or not is_terminal(task.status):
        return
    if not is_submitter(actor, task):
        return
    unread = Task.objects.filter(pk=task.pk, status=task.status, consumed_at__isnull=True)
    if unread.filter(life=task.life).update(consumed_at=Now()):
        task.refresh_from_db(fields=["consumed_at"])
