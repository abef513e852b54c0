"""Remembering that a submitter has seen how its task ended."""

from __future__ import annotations

import uuid

from django.db.models.functions import Now

from tasks.models import Task
from tasks.selectors.tasks import is_submitter
from tasks.states import is_terminal
from tenants.actor import Actor


def consume(actor: Actor, task: Task) -> None:
    """Note that ``actor`` has read ``task``, if it has ended and is the actor's own.

    The first reading counts. A new life that began meanwhile is not consumed: hence the life in the
    condition.
    """
    if task.consumed_at is not None or not is_terminal(task.status):
        return
    if not is_submitter(actor, task):
        return
    unread = Task.objects.filter(pk=task.pk, status=task.status, consumed_at__isnull=True)
    if unread.filter(life=task.life).update(consumed_at=Now()):
        task.refresh_from_db(fields=["consumed_at"])


def consume_end(actor: Actor, task_id: uuid.UUID) -> None:
    """Note that ``actor`` was told live how the task ended; nothing if it is gone or lives again."""
    task = Task.objects.filter(pk=task_id).first()
    if task is not None:
        consume(actor, task)
