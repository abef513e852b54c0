"""Why a request about tasks is refused, as problems that a client can act on.

::

    Problem
    ├── BadRequest ── UnknownTaskType, UnknownSecret, BadDependency (and schemas.BadParams)
    ├── Forbidden ─── NotYours
    ├── Conflict ──── KeyConflict, TaskFinished, NotCancellable, NotRetryable
    ├── TooManyRequests ── QueuedLimit, SubmitRate
    └── Unavailable ─ Maintenance
    Fenced         a write of an attempt that is not the newest (never reaches a client)
    Moved          the row changed between two statements: try the whole step again
"""

from __future__ import annotations

from rest.errors import (
    BadRequest,
    Conflict,
    FieldError,
    Forbidden,
    TooManyRequests,
    Unavailable,
)


class UnknownTaskType(BadRequest):
    """No worker has ever announced this task type."""

    code = "unknown_task_type"

    def __init__(self, name: str) -> None:
        detail = f"There is no task type {name!r}. GET …/task-types lists those that can be run."
        super().__init__(detail, errors=[FieldError("/type", "unknown_task_type", detail)])


class UnknownSecret(BadRequest):
    """``secrets`` names one that the tenant does not have; a run never gets an empty secret."""

    code = "unknown_secret"

    def __init__(self, index: int, name: str) -> None:
        detail = f"This tenant has no secret named {name!r}."
        super().__init__(detail, errors=[FieldError(f"/secrets/{index}", "unknown_secret", detail)])


class BadDependency(BadRequest):
    """``depends_on`` names something that cannot be waited for."""

    code = "bad_dependency"

    def __init__(self, index: int, detail: str) -> None:
        super().__init__(detail, errors=[FieldError(f"/depends_on/{index}", "bad_dependency", detail)])


class NotYours(Forbidden):
    """The caller may see this task but not change it."""

    code = "not_yours"

    def __init__(self) -> None:
        super().__init__(
            "Only its submitter, an admin of the tenant or an operator may do this (scope tasks:admin)."
        )


class KeyConflict(Conflict):
    """Another task with this key is still active."""

    code = "key_conflict"

    def __init__(self, key: str, task_id: str) -> None:
        super().__init__(f"Task {task_id} with the key {key!r} has not ended yet.", task=task_id)


class TaskFinished(Conflict):
    """The task has ended, so nothing changes any more."""

    code = "task_finished"

    def __init__(self, status: str) -> None:
        super().__init__(f"The task has ended ({status}); nothing was changed.", task_status=status)


class NotCancellable(Conflict):
    """The task's type cannot be stopped once it runs."""

    code = "not_cancellable"

    def __init__(self, name: str) -> None:
        super().__init__(f"A running {name} cannot be cancelled. An admin may end it with force: true.")


class NotRetryable(Conflict):
    """Only a task that ended without success can be given a new life."""

    code = "not_retryable"

    def __init__(self, status: str) -> None:
        super().__init__(
            f"A task that is {status} cannot be retried; only failed, dropped and cancelled ones can.",
            task_status=status,
        )


class QueuedLimit(TooManyRequests):
    """The tenant, or its lane, has as many queued tasks as it may have."""

    code = "queued_limit"

    def __init__(self, queue: str, limit: int) -> None:
        where = f"in the queue {queue}" if queue else "in all queues together"
        super().__init__(
            f"At most {limit} tasks may be queued {where}. Submit again when one has started.",
            retry_after=5,
            limit=f"queues.{queue}.queued" if queue else "queued",
        )


class SubmitRate(TooManyRequests):
    """The tenant submits faster than it may."""

    code = "submit_rate"

    def __init__(self, rate: float, retry_after: float) -> None:
        super().__init__(
            f"At most {rate:g} tasks a second may be submitted.",
            retry_after=retry_after,
            limit="submit_per_second",
        )


class Maintenance(Unavailable):
    """The operators have stopped the intake of tasks."""

    code = "maintenance"

    def __init__(self) -> None:
        super().__init__(
            "Switchyard is in maintenance mode: it takes no new tasks for a while. Reads work.",
            retry_after=30,
        )


class Fenced(Exception):
    """A write came from an attempt that is no longer the newest; it was refused."""


class Moved(Exception):
    """Another process changed the row first; nothing was written."""
