"""The state machine of tasks and runs as plain rules: no Django, no database.

::

    submitted ─► allocated ─► scheduled ─► blocked ─► queued ─► running ─┬─► completed
                                                        ▲          │     ├─► failed
                                                        │          ▼     ├─► cancelled
                                                        └── retry_wait   └─► dropped

Who moves a task on, also after a crash: *allocated* its submitter (or the upload deadline),
*scheduled* and *retry_wait* the dispatcher's clock, *blocked* the end of its parents, *queued* the
dispatcher and a worker's claim, *running* its supervisor, or the reaper when the lease ends.
PostgreSQL refuses every change that :data:`TRANSITIONS` does not list (see migration 0002).
"""

from __future__ import annotations

from enum import StrEnum


class Status(StrEnum):
    """Where a task is."""

    ALLOCATED = "allocated"
    SCHEDULED = "scheduled"
    BLOCKED = "blocked"
    QUEUED = "queued"
    RUNNING = "running"
    RETRY_WAIT = "retry_wait"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    DROPPED = "dropped"


class RunStatus(StrEnum):
    """Where one attempt is; a run exists from the claim on."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    LOST = "lost"
    CANCELLED = "cancelled"
    PREEMPTED = "preempted"
    DROPPED = "dropped"


class Reason(StrEnum):
    """Why a task is in its status, where the status alone does not say it."""

    HANDLER_ERROR = "handler_error"
    TIMED_OUT = "timed_out"
    LOST = "lost"
    POISON = "poison"
    MAX_RETRIES_EXCEEDED = "max_retries_exceeded"
    INTERRUPTED = "interrupted"
    USER_CANCELLED = "user_cancelled"
    PARENT_FAILED = "parent_failed"
    PARENT_CANCELLED = "parent_cancelled"
    PARENT_DROPPED = "parent_dropped"
    QUEUE_TIMEOUT = "queue_timeout"
    UPLOAD_TIMEOUT = "upload_timeout"
    SHUTDOWN = "shutdown"
    PREEMPTED = "preempted"
    REPLACED = "replaced"
    RETRIED = "retried"
    # What the platform itself found wrong with a run: each bears the code of the run's error.
    BAD_PARAMS = "bad_params"
    CHECKOUT_FAILED = "checkout_failed"
    CPU_LIMIT = "cpu_limit"
    DISK_FULL = "disk_full"
    FILE_SIZE_LIMIT = "file_size_limit"
    MEMORY_LIMIT = "memory_limit"
    OUT_OF_MEMORY = "out_of_memory"
    PROCESS_LIMIT = "process_limit"
    PROTOCOL = "protocol"
    SANDBOX = "sandbox"
    SECRET_UNAVAILABLE = "secret_unavailable"  # noqa: S105 - a reason, not a secret
    SIGNAL = "signal"
    SOURCE_REFUSED = "source_refused"


class Queue(StrEnum):
    """The three queues that carry tenants' work."""

    CRITICAL = "critical"
    NORMAL = "normal"
    BATCH = "batch"


TERMINAL = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED, Status.DROPPED})
WAITING = frozenset(
    {Status.ALLOCATED, Status.SCHEDULED, Status.BLOCKED, Status.QUEUED, Status.RETRY_WAIT}
)
INITIAL = frozenset({Status.ALLOCATED, Status.SCHEDULED, Status.BLOCKED, Status.QUEUED})
_GIVEN_UP = frozenset({Status.CANCELLED, Status.DROPPED})

TRANSITIONS: dict[Status, frozenset[Status]] = {
    Status.ALLOCATED: frozenset({Status.SCHEDULED, Status.BLOCKED, Status.QUEUED}) | _GIVEN_UP,
    Status.SCHEDULED: frozenset({Status.BLOCKED, Status.QUEUED}) | _GIVEN_UP,
    Status.BLOCKED: frozenset({Status.QUEUED}) | _GIVEN_UP,
    Status.QUEUED: frozenset({Status.RUNNING}) | _GIVEN_UP,
    Status.RUNNING: frozenset({Status.RETRY_WAIT, Status.QUEUED}) | TERMINAL,
    Status.RETRY_WAIT: frozenset({Status.QUEUED}) | _GIVEN_UP,
    Status.COMPLETED: frozenset(),
    # Leaving an end is an explicit retry: a new life (services.retry), never anything else.
    # A descendant that comes back before its own start time waits for that first.
    Status.FAILED: frozenset({Status.QUEUED, Status.BLOCKED}),
    Status.CANCELLED: frozenset({Status.QUEUED, Status.BLOCKED, Status.SCHEDULED}),
    Status.DROPPED: frozenset({Status.QUEUED, Status.BLOCKED}),
}

ALIASES = {"canceled": Status.CANCELLED}
"""Spellings that filters accept besides the statuses' own."""

FOUND_BY_US = frozenset(
    {
        Reason.BAD_PARAMS,
        Reason.CHECKOUT_FAILED,
        Reason.CPU_LIMIT,
        Reason.DISK_FULL,
        Reason.FILE_SIZE_LIMIT,
        Reason.MEMORY_LIMIT,
        Reason.OUT_OF_MEMORY,
        Reason.PROCESS_LIMIT,
        Reason.PROTOCOL,
        Reason.SANDBOX,
        Reason.SECRET_UNAVAILABLE,
        Reason.SIGNAL,
        Reason.SOURCE_REFUSED,
    }
)
"""Error codes that are also the reason of a failure; every other code is the handler's own."""

MAX_LOSSES = 3
"""A task whose workers were lost this often is not tried again by the platform itself."""

MAX_CRASHES = 2
"""A task whose runs took down their own supervisor this often is poison."""


def is_terminal(status: str) -> bool:
    """Return whether a task in ``status`` has ended."""
    return status in TERMINAL


def failure_reason(code: str) -> Reason:
    """Return why a task is failed whose run ended with the error ``code``.

    Codes that handlers raise are as many as there are handlers, so they stay in the error; the reason
    is one of a list that clients can know.
    """
    return Reason(code) if code in FOUND_BY_US else Reason.HANDLER_ERROR


def parent_reason(status: str) -> Reason:
    """Return why a child is cancelled when its parent ended with ``status``."""
    return {
        Status.FAILED: Reason.PARENT_FAILED,
        Status.CANCELLED: Reason.PARENT_CANCELLED,
        Status.DROPPED: Reason.PARENT_DROPPED,
    }[Status(status)]
