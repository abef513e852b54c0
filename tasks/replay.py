"""From a task's events back to its row: plain rules, no Django, no database.

Every change writes its event in its own transaction, so the events alone say where a task is, why,
in which life and attempt, and what it has been charged. Whoever keeps the events (a feed, a backup,
an auditor) can check a row with this, and the property test does after every step.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tasks.states import INITIAL, TERMINAL, TRANSITIONS, Status

COUNTERS = ("failures", "losses", "crashes", "restarts", "preemptions")


class BadHistory(ValueError):
    """These events cannot be the history of a task; the message says at which number."""


@dataclass(slots=True)
class Replayed:
    """What events tell of a task; the names are those of its row.

    ``next_retry_at`` is the text of the time; ``started`` and ``finished`` say whether the row has the
    time of that name.
    """

    status: Status
    last_seq: int = 1
    status_reason: str | None = None
    life: int = 1
    attempt: int = 0
    failures: int = 0
    losses: int = 0
    crashes: int = 0
    restarts: int = 0
    preemptions: int = 0
    progress_percent: float = 0
    progress_step: str = ""
    error: dict[str, Any] | None = None
    cancel_requested_by: str | None = None
    cancel_reason: str = ""
    next_retry_at: str | None = None
    started: bool = False
    finished: bool = False


def replay(events: Iterable[Mapping[str, Any]]) -> Replayed:
    """Return what the events, ``{seq, kind, data}`` in order from 1, make of a task.

    Raises:
        BadHistory: a number is missing, or a status does not follow from the one before.
    """
    found: Replayed | None = None
    for event in events:
        seq, kind, data = event["seq"], event["kind"], event["data"]
        if found is None:
            found = _begin(seq, kind, data)
            continue
        if seq != found.last_seq + 1:
            raise BadHistory(f"Event {found.last_seq} is followed by {seq}.")
        found.last_seq = seq
        if kind == "state":
            _move(found, data)
        elif kind == "progress":
            found.progress_percent, found.progress_step = data["percent"], data["step"]
        elif data.get("cancel_requested") and found.cancel_requested_by is None:
            found.cancel_requested_by, found.cancel_reason = data["by"], data["note"]
    if found is None:
        raise BadHistory("A task has at least one event.")
    return found


def _begin(seq: int, kind: str, data: Mapping[str, Any]) -> Replayed:
    if seq != 1 or kind != "state" or data["status"] not in INITIAL:
        raise BadHistory(f"A history does not begin with {kind} {seq}.")
    return Replayed(Status(data["status"]))


def _move(task: Replayed, data: Mapping[str, Any]) -> None:
    before, after = task.status, Status(data["status"])
    if data["from"] != before or after not in TRANSITIONS[before]:
        raise BadHistory(f"Event {task.last_seq}: {before} cannot become {after}.")
    if before in TERMINAL:
        _begin_new_life(task)
    task.status, task.status_reason = after, data["reason"]
    task.finished = after in TERMINAL
    task.next_retry_at = data.get("next_retry_at")
    if "error" in data:
        task.error = data["error"]
    for counter in data.get("counts", ()):
        setattr(task, counter, getattr(task, counter) + 1)
    if after is Status.RUNNING:
        task.attempt, task.error, task.started = data["attempt"], None, True
    elif after is Status.COMPLETED:
        task.progress_percent = 100
    elif after is Status.CANCELLED and before is not Status.RUNNING and "by" in data:
        task.cancel_requested_by, task.cancel_reason = data["by"], data["note"]


def _begin_new_life(task: Replayed) -> None:
    task.life += 1
    for counter in COUNTERS:
        setattr(task, counter, 0)
    task.progress_percent, task.progress_step = 0, ""
    task.error, task.started = None, False
    task.cancel_requested_by, task.cancel_reason = None, ""
