"""The story of a task: its events in words, grouped by attempt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tasks.models import Run, Task
from tasks.selectors.history import events_after

KINDS = frozenset({"state", "error", "note"})
MOST = 500

WORDS = {
    "allocated": "Submitted; inputs still to be uploaded",
    "scheduled": "Scheduled",
    "blocked": "Waiting for the tasks it depends on",
    "queued": "Queued",
    "running": "Started",
    "retry_wait": "Failed; will be tried again",
    "completed": "Completed",
    "failed": "Failed",
    "cancelled": "Cancelled",
    "dropped": "Dropped",
}


@dataclass(frozen=True)
class Moment:
    """One line of the timeline. ``status`` colours its mark; notes have none."""

    seq: int
    at: datetime
    status: str
    text: str
    detail: str
    run: int | None


def timeline(task: Task) -> list[Moment]:
    """Return what happened to the task, oldest first, without progress and log."""
    frames = events_after(task.pk, 0, limit=MOST, kinds=KINDS)
    return [moment for moment in map(_moment, frames) if moment is not None]


def _moment(frame: dict[str, Any]) -> Moment | None:
    data, kind = frame["data"], frame["kind"]
    status = ""
    if kind == "state":
        status = str(data.get("status", ""))
        text = WORDS.get(status, status)
        if status == "running" and frame["run"]:
            text = f"Attempt {frame['run']} started"
        elif data.get("from") is None and status == "queued":
            text = "Submitted and queued"
    elif data.get("cancel_requested"):
        text = "Killing was asked for" if data.get("force") else "Cancelling was asked for"
    elif data.get("preempt_requested"):
        text = "Asked to make room for critical work"
    elif data.get("input"):
        text = f"Input {data['input']} uploaded"
    elif data.get("checkpoint"):
        text = "Checkpoint stored"
    elif kind == "error":
        text = str(data.get("code") or "Error").replace("_", " ")
    else:
        return None
    return Moment(
        seq=frame["seq"],
        at=datetime.fromisoformat(frame["at"]),
        status=status,
        text=text,
        detail=_detail(data),
        run=frame["run"],
    )


def _detail(data: dict[str, Any]) -> str:
    parts = []
    if data.get("reason"):
        parts.append(str(data["reason"]).replace("_", " "))
    if data.get("by"):
        parts.append(f"by {str(data['by']).partition(':')[2] or data['by']}")
    for name in ("note", "message"):
        if data.get(name):
            parts.append(f"“{data[name]}”")
    return " · ".join(parts)


def runs_of(task: Task) -> Sequence[Run]:
    """Return the attempts, the newest first."""
    return list(task.runs.order_by("-attempt"))
