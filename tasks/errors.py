"""Why a request about tasks is refused, as problems that a client can act on.

::

    Problem
    ├── BadRequest ── UnknownTaskType, BadParams, UnknownSecret, BadDependency, DigestMismatch
    ├── Forbidden ─── NotYours
    ├── NotFound ──── UnknownInput, ContentGone
    ├── Conflict ──── KeyConflict, TaskFinished, NotCancellable, NotRetryable, ParentsFirst,
    │                 InputsMissing, InputsLost, InputsClosed, UploadExpired, WorkerGone,
    │                 PoolMinimum, CapacityExceeded
    ├── TooLarge ──── InputTooLarge
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
    NotFound,
    TooLarge,
    TooManyRequests,
    Unavailable,
)


class UnknownTaskType(BadRequest):
    """No worker has ever announced this task type."""

    code = "unknown_task_type"

    def __init__(self, name: str) -> None:
        detail = f"There is no task type {name!r}. GET …/task-types lists those that can be run."
        super().__init__(detail, errors=[FieldError("/type", "unknown_task_type", detail)])


class BadParams(BadRequest):
    """The params do not match the task type's schema."""

    code = "bad_params"


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


class WorkerGone(Conflict):
    """The worker has ended or was lost: it cannot be drained."""

    code = "worker_gone"

    def __init__(self, name: str) -> None:
        super().__init__(f"The worker {name} does not live any more; its machine has started another.")


class PoolMinimum(Conflict):
    """A pool is to be switched off that has a minimum: too easily done by mistake."""

    code = "pool_minimum"

    def __init__(self, queue: str, least: int, most: int) -> None:
        super().__init__(
            f"The {queue} pool has a minimum of {least}. It can be scaled to 0 once its minimum is 0, "
            f"such as by {queue}=0..{most}, with which it also rests at 0 while no task waits.",
            pool=queue,
        )


class CapacityExceeded(Conflict):
    """A machine does not bear as many slots as its pools would have at the least."""

    code = "capacity_exceeded"

    def __init__(self, machine: str, capacity: int, together: int) -> None:
        super().__init__(
            f"The machine {machine} bears {capacity} slots (SWITCHYARD_CAPACITY), and the minima of its "
            f"pools would be {together} together.",
            machine=machine,
            capacity=capacity,
        )


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


class DigestMismatch(BadRequest):
    """What arrived is not what the client says it sent."""

    code = "digest_mismatch"

    def __init__(self, sha256: str) -> None:
        detail = f"The SHA-256 of the bytes that arrived is {sha256}: upload the input again."
        where = FieldError("header:Content-Digest", "digest_mismatch", detail)
        super().__init__(detail, errors=[where])


class UnknownInput(NotFound):
    """The task's submit declared no input of this name."""

    code = "unknown_input"

    def __init__(self, name: str, declared: list[str]) -> None:
        takes = f"it takes {', '.join(declared)}" if declared else "it takes none"
        super().__init__(
            f"This task has no input {name!r}: {takes}. Name inputs in `inputs` at POST …/tasks."
        )


class ContentGone(NotFound):
    """The storage does not have the bytes that the database knows."""

    code = "content_gone"
    default_detail = "The content of this file is not in storage any more; run the task again."


class InputsMissing(Conflict):
    """A task was let go before all its inputs had come, or has lost them."""

    code = "inputs_missing"

    def __init__(self, missing: list[str]) -> None:
        super().__init__(
            f"These inputs are missing: {', '.join(missing)}. Upload each with PUT …/inputs/NAME.",
            missing=missing,
        )


class InputsLost(Conflict):
    """A task that ended before its inputs were complete has nothing to run with."""

    code = "inputs_lost"

    def __init__(self) -> None:
        super().__init__(
            "The task ended before it had all its inputs, and they were removed. Submit it anew."
        )


class InputsClosed(Conflict):
    """The task was let go, so its inputs can no more be changed."""

    code = "inputs_closed"

    def __init__(self, status: str) -> None:
        super().__init__(
            f"The task is {status}; its inputs are taken, and it is let go, only while it is allocated.",
            task_status=status,
        )


class UploadExpired(Conflict):
    """Content took so long to arrive that what had come was removed."""

    code = "upload_expired"
    default_detail = "The upload took too long and was removed; upload the file again."


class InputTooLarge(TooLarge):
    """An input has more bytes than one may have."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"An input may have {limit:,} bytes. Split it, or ask an operator to raise "
            "SWITCHYARD_MAX_INPUT.",
            limit=limit,
        )


class ParentsFirst(Conflict):
    """The task waits for another one that ended without success."""

    code = "not_retryable"

    def __init__(self, parent: str, status: str) -> None:
        super().__init__(
            f"It waits for task {parent}, which ended ({status}). Retry that one: this one comes "
            f"back with it.",
            parent=parent,
        )


class QueuedLimit(TooManyRequests):
    """The tenant, or its lane, has as many queued tasks as it may have."""

    code = "queued_limit"

    def __init__(self, queue: str, limit: int) -> None:
        self.queue = queue
        where = f"in the queue {queue}" if queue else "in all queues together"
        super().__init__(
            f"At most {limit} tasks may be queued {where}. Try again when one has started.",
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
