"""What the end of a handler means: plain rules that turn it into an Outcome."""

from __future__ import annotations

import signal
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
    ``memory``, ``cpu``, ``processes``, ``workspace``, ``protocol``; None if it ended by itself.
    ``overran`` means that it had told its end and its clean-ups were killed; ``hints`` are the
    meter's.
    """

    result: dict[str, Any] | None = None
    has_result: bool = False
    error: Error | None = None
    stopped_for: str | None = None
    stop_detail: str = ""
    checkpointed: bool = False
    overran: bool = False
    hints: frozenset[str] = frozenset()
    artifacts: dict[str, str] = field(default_factory=dict)


LIMIT_MESSAGES = {
    "memory": ("memory_limit", "The run used more memory than it may: {}."),
    "cpu": ("cpu_limit", "The run used more CPU time than it may: {}."),
    "processes": ("process_limit", "The run started more processes than it may: {}."),
    "workspace": ("disk_full", "The run's workspace grew beyond its limit: {}."),
    "protocol": ("protocol", "The handler sent what is no message: {}"),
}

SIGNAL_MEANINGS = {"SIGXCPU": "cpu_limit", "SIGXFSZ": "file_size_limit"}
SHELL_SIGNAL = 128
"""A shell whose command was ended by signal n exits with this and n."""

HINTS: tuple[tuple[str, tuple[str, ...], str, str], ...] = (
    ("cpu", ("exit_code", "signal"), "cpu_limit", "The run used up its CPU time."),
    ("memory", ("signal",), "memory_limit", "The run died ({}) when it had used up its memory."),
    ("oom", ("SIGKILL",), "out_of_memory", "The machine ran out of memory and killed the handler."),
    ("disk", ("exit_code",), "disk_full", "The disk of the run's workspace is full ({})."),
)
"""Hint, what it explains (error codes or a signal), the code and message that then name the failure."""

NOT_AGAIN = ("cpu_limit", "memory_limit", "process_limit", "file_size_limit", "signal")
"""What would most likely happen again: not retried unless the handler or ``retry_on`` asks for it."""


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
    facts: dict[str, Any] = {"exit_code": _exit_code(end), "signal": end.signal}
    if end.reason == "sandbox":
        message = f"The sandbox could not be built: {end.message}"
        return Outcome(RunStatus.FAILED, error={"code": "sandbox", "message": message}, **facts)
    error = _error(task_type, params, end, heard)
    if heard.stopped_for in LIMIT_MESSAGES:
        code, text = LIMIT_MESSAGES[heard.stopped_for]
        error = {"code": code, "message": text.format(heard.stop_detail)}
        return Outcome(RunStatus.FAILED, error=error, likely_again=True, **facts)
    if error is None:
        # It succeeded, even if it was asked to stop: the end says what happened.
        return Outcome(RunStatus.COMPLETED, result=heard.result, **facts)
    facts["checkpointed"] = heard.checkpointed
    asked = ("cancel", "kill", "stop", "preempt")
    if cancel_asked and (heard.stopped_for in asked or error["code"] == "cancelled"):
        return Outcome(RunStatus.CANCELLED, error=None, **facts)
    if heard.stopped_for == "time":
        message = f"The run took longer than its limit of {time_limit:g} s."
        return Outcome(RunStatus.TIMED_OUT, error={"code": "timed_out", "message": message}, **facts)
    if heard.stopped_for in ("stop", "preempt"):
        status = RunStatus.DROPPED if heard.stopped_for == "stop" else RunStatus.PREEMPTED
        why = "a planned stop of its worker" if heard.stopped_for == "stop" else "critical work"
        message = f"The run was interrupted for {why}."
        return Outcome(status, error={"code": "interrupted", "message": message}, **facts)
    retry = heard.error.retry if heard.error else None
    facts["likely_again"] = error["code"] in NOT_AGAIN
    return Outcome(RunStatus.FAILED, error=error, retry=retry, **facts)


def _error(task_type: str, params: dict[str, Any], end: Exit, heard: Heard) -> dict[str, Any] | None:
    """Return what went wrong by the handler's own account or its exit; None for success."""
    found = _told(task_type, params, end, heard)
    if found is None or heard.error is not None:
        return found
    for hint, explains, code, message in HINTS:
        if hint in heard.hints and (found["code"] in explains or end.signal in explains):
            return {**found, "code": code, "message": message.format(found["message"])}
    return found


def _told(task_type: str, params: dict[str, Any], end: Exit, heard: Heard) -> dict[str, Any] | None:
    """Return what the handler said, or what its exit says."""
    if heard.error is not None:
        found: dict[str, Any] = {"code": heard.error.code, "message": heard.error.message}
        if heard.error.type:
            found["type"] = heard.error.type
        if heard.error.detail is not None:
            found["detail"] = heard.error.detail
        return found
    if task_type == SHELL:
        outcome = shell.outcome(params, end.code, end.signal)
        return None if outcome is None else _limit_signal(end) or outcome
    if end.signal in SIGNAL_MEANINGS:
        return _limit_signal(end)
    if heard.has_result and (heard.overran or heard.stopped_for is not None):
        return None  # it had told its result: what we killed were its clean-ups
    if end.signal is not None:
        message = f"The handler was ended by {end.signal}."
        return {"code": "signal", "message": message, "detail": {"signal": end.signal}}
    if heard.has_result:
        return None
    message = f"The handler ended with exit code {end.code} and without a result."
    return {"code": "exit_code", "message": message, "detail": {"exit_code": end.code}}


def _limit_signal(end: Exit) -> dict[str, Any] | None:
    """Return the error of a program that the kernel ended for a limit, also below a shell."""
    number = (end.code or 0) - SHELL_SIGNAL
    name = end.signal or next((each.name for each in signal.Signals if each == number), "")
    if name not in SIGNAL_MEANINGS:
        return None
    return {"code": SIGNAL_MEANINGS[name], "message": f"The run was ended by {name}: it hit a limit."}


def _exit_code(end: Exit) -> int | None:
    """Return the exit code as a shell would tell it: 128 and the number of the signal."""
    if end.signal is None:
        return end.code
    return SHELL_SIGNAL + int(signal.Signals[end.signal])
