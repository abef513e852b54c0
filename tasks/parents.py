"""What the parents of a task mean for it: plain rules, no Django, no database.

The one place that knows when a child may start, must wait, or can never start. A child that is
submitted late is judged by the same rule as one that was there when its parents ended.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from tasks.states import Status


class Prospect(StrEnum):
    """What a child can expect of its parents."""

    FREE = "free"
    WAITING = "waiting"
    DOOMED = "doomed"


class Parent(NamedTuple):
    """One task that another waits for."""

    id: uuid.UUID
    status: str
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class Judgement:
    """The prospect, and of a doomed child the parent that was the first to end without success."""

    prospect: Prospect
    culprit: Parent | None = None


def judge(parents: Iterable[Parent], *, run_anyway: bool) -> Judgement:
    """Return what a child can expect; ``run_anyway`` is ``on_parent_failure: "run"``."""
    open_parents, ended_badly = 0, []
    for parent in parents:
        if parent.finished_at is None:
            open_parents += 1
        elif parent.status != Status.COMPLETED:
            ended_badly.append((parent.finished_at, parent))
    if ended_badly and not run_anyway:
        return Judgement(Prospect.DOOMED, min(ended_badly)[1])
    return Judgement(Prospect.WAITING if open_parents else Prospect.FREE)
