"""What the end of a handler means: plain rules that turn it into an Outcome."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from switchyard.protocol import Error
from tasks.outcomes import Outcome
from tasks.states import RunStatus
from workers.handlers import shell
from workers.sandbox import Exit

SHELL = "shell.command"


@dataclass(slots=True)
class Heard:
    """What the handler said about its end, and what we did to it.

    ``stopped_for`` is why we ended it: ``cancel``, ``kill``, ``time``, ``stop``, ``preempt``,
    ``memory``, ``workspace``, ``protocol``; None if it ended by itself.
    """

    result: dict[str, Any] | None = None
    has_result: bool = False
    error: Error | None = None
    stopped_for: str | None = None
    stop_detail: str = ""
    checkpointed: bool = False
    mentions: dict[str, Any] = field(default_factory=dict)


LIMIT_MESSAGES = {
    "memory": ("memory_limit", "The run used more memory than it may: {}."),
    "workspace": ("disk_full", "The run's workspace grew beyond its limit: {}."),
    "protocol": ("protocol", "The handler sent what is no message: {}"),
}

SIGNAL_MEANINGS = {"SIGXCPU": "cpu_limit", "SIGXFSZ": "file_size_limit"}


def verdict(
    task_type: str,
    params: dict[str, Any],
    end: Exit,
    heard: Heard,
    *,
    time_limit: float | None,
    cancel_asked: bool,
) -> Outcome:
    """Return how the run ended, without its numbers (see :class:`tasks.outcomes.Outcome`)."""
    facts: dict[str, Any] = {"exit_code": end.code, "signal": end.signal}
    if end.reason == "sandbox":
        message = f"The sandbox could not be built: {end.message}"
        return Outcome(RunStatus.FAILED, error={"code": "sandbox", "message": message}, **facts)
    error = _error(task_type, params, end, heard)
    if heard.stopped_for in LIMIT_MESSAGES:
        code, text = LIMIT_MESSAGES[heard.stopped_for]
        error = {"code": code, "message": text.format(heard.stop_detail)}
        return Outcome(RunStatus.FAILED, error=error, retry=False, **facts)
    if error is None:
        # It succeeded, even if it was asked to stop: the end says what happened.
        return Outcome(RunStatus.COMPLETED, result=heard.result, **facts)
    facts["checkpointed"] = heard.checkpointed
    if cancel_asked and (heard.stopped_for in ("cancel", "kill") or error["code"] == "cancelled"):
        return Outcome(RunStatus.CANCELLED, error=None, **facts)
    if heard.stopped_for == "time":
        message = f"The run took longer than its limit of {time_limit:g} s."
        return Outcome(RunStatus.TIMED_OUT, error={"code": "timed_out", "message": message}, **facts)
    if heard.stopped_for in ("stop", "preempt"):
        status = RunStatus.DROPPED if heard.stopped_for == "stop" else RunStatus.PREEMPTED
        why = "a planned stop of its worker" if heard.stopped_for == "stop" else "critical work"
        message = f"The run was interrupted for {why}."
        return Outcome(status, error={"code": "interrupted", "message": message}, **facts)
    # A handler that died of a signal would most likely do so again: no retry unless it is asked for.
    retry = heard.error.retry if heard.error else (False if end.signal else None)
    return Outcome(RunStatus.FAILED, error=error, retry=retry, **facts)


def _error(task_type: str, params: dict[str, Any], end: Exit, heard: Heard) -> dict[str, Any] | None:
    """Return what went wrong by the handler's own account or its exit; None for success."""
    if heard.error is not None:
        found: dict[str, Any] = {"code": heard.error.code, "message": heard.error.message}
        if heard.error.type:
            found["type"] = heard.error.type
        if heard.error.detail is not None:
            found["detail"] = heard.error.detail
        return found
    if end.signal in SIGNAL_MEANINGS:
        code = SIGNAL_MEANINGS[end.signal]
        return {"code": code, "message": f"The run was ended by {end.signal}: it hit a limit."}
    if task_type == SHELL:
        return shell.outcome(params, end.code, end.signal)
    if end.signal is not None:
        message = f"The handler was ended by {end.signal}."
        return {"code": "signal", "message": message, "detail": {"signal": end.signal}}
    if heard.has_result:
        return None
    message = f"The handler ended with exit code {end.code} and without a result."
    return {"code": "exit_code", "message": message, "detail": {"exit_code": end.code}}
