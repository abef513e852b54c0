"""Writing down what the clock has to do for a task; :func:`tasks.services.release.due` does it."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.conf import settings

from tasks.clock import database_now
from tasks.models import Later, Task
from tasks.states import Status


def first_deadline(
    status: Status, queue_timeout: float | None, scheduled_for: datetime | None
) -> datetime | None:
    """Return until when a new task's inputs must come, else until when it must start."""
    if status is Status.ALLOCATED:
        return database_now() + timedelta(seconds=settings.SWITCHYARD.upload_timeout)
    return queue_deadline(queue_timeout, scheduled_for)


def queue_deadline(seconds: float | None, scheduled_for: datetime | None) -> datetime | None:
    """Return when a task that has not started is dropped: counted from when it may start."""
    if seconds is None:
        return None
    now = database_now()
    return max(scheduled_for or now, now) + timedelta(seconds=seconds)


def remember_due(task: Task) -> None:
    """Write down the start time and the deadline of a task that begins to wait."""
    due = []
    if task.status == Status.SCHEDULED:
        assert task.scheduled_for is not None  # noqa: S101 - it is what made the task scheduled
        due.append(Later(task_id=task.pk, due_at=task.scheduled_for, what="start"))
    if task.deadline_at is not None:
        what = "upload" if task.status == Status.ALLOCATED else "queue_timeout"
        due.append(Later(task_id=task.pk, due_at=task.deadline_at, what=what))
    if due:
        Later.objects.bulk_create(due)
