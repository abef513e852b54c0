"""What becomes of a task when one of its runs ends: plain rules, no Django, no database.

The one place that decides between *try again* and *that was it*. Everything that can end a run (the
supervisor, the reaper, a planned stop) describes the end as an :class:`Outcome`, and
:func:`decide` turns it into a :class:`Decision`.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tasks.states import MAX_CRASHES, MAX_LOSSES, Reason, RunStatus, Status, failure_reason

MESSAGE_LIMIT = 4000
"""An error's message is cut to this many characters; the whole text is in the log."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended.

    ``error`` is ``{code, message, type?, detail?}`` or None. ``retry`` is what the handler said with
    its error: False forbids another attempt, True allows one whatever ``retry_on`` and ``never_on``
    say (``max_retries`` still bounds it), None leaves it to the policy. ``likely_again`` says that
    another attempt would most likely end the same (a limit, a signal): only one that ``retry_on``
    names is made. ``crashed`` means that the run took its own supervisor down while the rest of the
    machine lived.
    """

    status: RunStatus
    error: dict[str, Any] | None = None
    result: Any = None
    retry: bool | None = None
    likely_again: bool = False
    crashed: bool = False
    checkpointed: bool = False
    exit_code: int | None = None
    signal: str | None = None
    cpu_seconds: float | None = None
    max_rss_bytes: int | None = None
    wall_seconds: float | None = None
    log_bytes: int = 0
    log_lines: int = 0
    log_truncated: bool = False


@dataclass(frozen=True, slots=True)
class TaskFacts:
    """What of a task counts for the decision; ``retry`` is the policy, see :func:`may_retry`.

    ``cancel_why`` is the reason that it ends with if it is cancelled ("" for a user's wish).
    """

    cancel_requested: bool
    idempotent: bool
    max_retries: int
    retry: Mapping[str, Any]
    failures: int
    losses: int
    crashes: int
    on_loss: str = "retry"
    on_shutdown: str = "requeue"
    cancel_why: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """The task's next status, why, and which counter the run adds to.

    ``delay`` is in seconds and belongs to ``retry_wait``.
    """

    status: Status
    reason: Reason | None = None
    counts: tuple[str, ...] = field(default=())
    delay: float = 0.0


def decide(outcome: Outcome, task: TaskFacts) -> Decision:
    """Return what becomes of the task; after a cancel there is never a retry."""
    if outcome.status is RunStatus.COMPLETED:
        return Decision(Status.COMPLETED)
    if outcome.status is RunStatus.CANCELLED:
        return Decision(Status.CANCELLED, _why(task))
    if outcome.status is RunStatus.LOST:
        return _after_loss(outcome, task)
    if outcome.status is RunStatus.PREEMPTED:
        return _after_interruption(outcome, task, "preemptions", Reason.PREEMPTED)
    if outcome.status is RunStatus.DROPPED:
        return _after_interruption(outcome, task, "restarts", Reason.SHUTDOWN)
    return _after_failure(outcome, task)


def _why(task: TaskFacts) -> Reason:
    return Reason(task.cancel_why or Reason.USER_CANCELLED)


def _after_failure(outcome: Outcome, task: TaskFacts) -> Decision:
    error = outcome.error or {}
    timed_out = outcome.status is RunStatus.TIMED_OUT
    reason = Reason.TIMED_OUT if timed_out else failure_reason(str(error.get("code", "")))
    counts = ("failures",)
    allowed = outcome.retry
    if allowed is None:
        allowed = may_retry(error, task.retry, likely_again=outcome.likely_again)
    if task.cancel_requested or not allowed or task.max_retries == 0:
        return Decision(Status.FAILED, reason, counts)
    if task.failures >= task.max_retries:
        return Decision(Status.FAILED, Reason.MAX_RETRIES_EXCEEDED, counts)
    return Decision(Status.RETRY_WAIT, reason, counts, backoff(task.failures, task.retry))


def may_retry(
    error: Mapping[str, Any], policy: Mapping[str, Any], *, likely_again: bool = False
) -> bool:
    """Return whether the policy tries again after this error.

    ``never_on`` and ``retry_on`` are lists of error codes and names of exception classes. What
    ``never_on`` names is not tried again; where ``retry_on`` names anything, nothing else is. An error
    that is ``likely_again`` the same is tried again only where ``retry_on`` names it.
    """
    names = {error.get("code"), error.get("type")}
    if names.intersection(policy.get("never_on", ())):
        return False
    wanted = policy.get("retry_on", ())
    return bool(names.intersection(wanted)) if wanted else not likely_again


def _after_loss(outcome: Outcome, task: TaskFacts) -> Decision:
    counts: tuple[str, ...] = ("losses", "crashes") if outcome.crashed else ("losses",)
    if task.cancel_requested:
        return Decision(Status.CANCELLED, _why(task), counts)
    if task.on_loss == "drop":
        return Decision(Status.DROPPED, Reason.LOST, counts)
    if not task.idempotent or task.on_loss == "fail":
        return Decision(Status.FAILED, Reason.LOST, counts)
    if outcome.crashed and task.crashes + 1 >= MAX_CRASHES:
        return Decision(Status.FAILED, Reason.POISON, counts)
    if task.losses + 1 >= MAX_LOSSES:
        return Decision(Status.FAILED, Reason.LOST, counts)
    return Decision(Status.QUEUED, Reason.LOST, counts)


def _after_interruption(outcome: Outcome, task: TaskFacts, counter: str, reason: Reason) -> Decision:
    if task.cancel_requested:
        return Decision(Status.CANCELLED, _why(task), (counter,))
    if reason is Reason.SHUTDOWN and task.on_shutdown == "drop":
        return Decision(Status.DROPPED, Reason.SHUTDOWN, (counter,))
    if task.idempotent or outcome.checkpointed:
        return Decision(Status.QUEUED, reason, (counter,))
    return Decision(Status.FAILED, Reason.INTERRUPTED, (counter,))


def backoff(failures: int, policy: Mapping[str, Any]) -> float:
    """Return the seconds to wait before the next attempt, after ``failures`` earlier failures.

    ``delay × factor ** failures``, at most ``max_delay``, spread by ± ``jitter`` (a share, 0 to 1)
    so that tasks that failed together do not come back together.
    """
    grown = float(policy["delay"]) * float(policy["factor"]) ** min(failures, 64)
    delay = min(grown, float(policy["max_delay"]))
    spread = delay * float(policy["jitter"])
    return max(0.0, delay + random.uniform(-spread, spread))  # noqa: S311 - no secret depends on it
