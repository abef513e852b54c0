"""The tables of tasks: what a user sees (task, run, event, log), and what dispatching needs.

Wide and lasting: :class:`Task`, :class:`Run`, :class:`Event`, :class:`LogChunk`,
:class:`TaskFile`. Narrow and hot,
deleted as work moves on: :class:`Ready`, :class:`Inflight`, :class:`Later`, :class:`Parked`.
Every change locks in one order, which rules deadlocks out: task rows by ``ordinal``, then ready,
inflight, later and parked rows, then keys, then backlog counters.
"""

from __future__ import annotations

from tasks.models.dispatching import (
    Backlog,
    Inflight,
    KeyHolder,
    Lane,
    Later,
    Leader,
    LimitsRevision,
    Parked,
    Ready,
)
from tasks.models.files import FileRemoval, TaskFile
from tasks.models.history import Event, LogChunk
from tasks.models.maintenance import Maintenance
from tasks.models.pause import Pause
from tasks.models.pools import PoolBounds, PoolMachine
from tasks.models.routing import Estimate, Route
from tasks.models.run import Run
from tasks.models.task import Dependency, Task
from tasks.models.workers import TaskType, Worker

__all__ = [
    "Backlog",
    "Dependency",
    "Estimate",
    "Event",
    "FileRemoval",
    "Inflight",
    "KeyHolder",
    "Lane",
    "Later",
    "Leader",
    "LimitsRevision",
    "LogChunk",
    "Maintenance",
    "Parked",
    "Pause",
    "PoolBounds",
    "PoolMachine",
    "Ready",
    "Route",
    "Run",
    "Task",
    "TaskFile",
    "TaskType",
    "Worker",
]
