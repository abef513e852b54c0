"""What must hold at the end, whatever happened: the rules, and the rows that they are applied to.

The rules know nothing of how the platform works; they read its tables as a judge reads a register.
:func:`judge` returns one sentence for each violation, so an empty list is the proof.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import psycopg
from psycopg.rows import dict_row

from tasks.replay import COUNTERS, BadHistory, replay

Row = dict[str, Any]

TERMINAL = frozenset({"completed", "failed", "cancelled", "dropped"})
LEFT_LIVE = ("ready", "inflight", "parked")
REPEATED_BY_THE_PLATFORM = frozenset({"lost", "preempted", "dropped"})
"""Ends of runs after which only an idempotent task may run again by itself."""

REPLAYED = ("status", "status_reason", "last_seq", "life", "attempt", "error", *COUNTERS)
CHECKPOINTED = "checkpoint"


@dataclass
class Ledger:
    """What a client was told: the tasks that were accepted, and the promises about single ones."""

    accepted: dict[str, Row] = field(default_factory=dict)
    #: Tasks that an answer to a cancel showed as cancelled without a start.
    cancelled_waiting: set[str] = field(default_factory=set)

    def accept(self, task: Row) -> Row:
        """Note an accepted task, as the API answered it."""
        self.accepted[task["id"]] = task
        return task


@dataclass
class Register:
    """The tables, read in one snapshot."""

    tasks: dict[str, Row]
    runs: dict[str, list[Row]]
    events: dict[str, list[Row]]
    chunks: dict[str, list[Row]]
    live: dict[str, list[Row]]
    later: list[Row]
    backlog: list[Row]

    @classmethod
    def read(cls, database_url: str) -> Register:
        """Read everything from the platform's database."""
        with psycopg.connect(database_url, row_factory=dict_row) as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ

            def rows(query: str) -> list[Row]:
                found = connection.execute(query).fetchall()
                return [
                    {**row, "task_id": str(row["task_id"])} if "task_id" in row else row for row in found
                ]

            return cls(
                tasks={row["task_id"]: row for row in rows("SELECT *, id AS task_id FROM task")},
                runs=_grouped(rows("SELECT * FROM run ORDER BY task_id, attempt")),
                events=_grouped(rows("SELECT * FROM event ORDER BY task_id, seq")),
                chunks=_grouped(rows("SELECT * FROM log_chunk ORDER BY task_id, seq")),
                live={name: rows(f"SELECT * FROM {name}") for name in LEFT_LIVE},
                later=rows("SELECT * FROM later"),
                backlog=rows("SELECT * FROM backlog"),
            )

    def refusals(self) -> int:
        """Return how many late writes of overtaken attempts were refused."""
        return sum("refused" in event["data"] for events in self.events.values() for event in events)


def judge(register: Register, ledger: Ledger) -> list[str]:
    """Return every violation, in a sentence each."""
    found = [*_lost_and_foreign(register, ledger), *_left_over(register)]
    for task_id, task in register.tasks.items():
        found += [f"{task_id}: {told}" for rule in RULES for told in rule(register, task)]
    for task_id in ledger.cancelled_waiting:
        runs = register.runs.get(task_id, [])
        if runs:
            found.append(f"{task_id}: cancelled while waiting, and started all the same")
    return found


# -- all of them together ---------------------------------------------------------------------------


def _lost_and_foreign(register: Register, ledger: Ledger) -> Iterable[str]:
    for task_id in ledger.accepted.keys() - register.tasks.keys():
        yield f"{task_id}: accepted, and lost"
    for task_id in register.tasks.keys() - ledger.accepted.keys():
        yield f"{task_id}: nobody submitted it ({register.tasks[task_id]['type']})"


def _left_over(register: Register) -> Iterable[str]:
    """Rows of hot tables that no task justifies, and counters that differ from a recount."""
    for name, rows in register.live.items():
        for row in rows:
            status = register.tasks.get(row["task_id"], {}).get("status")
            if status not in ("queued", "running"):
                yield f"{row['task_id']}: left in {name} while {status}"
    for row in register.later:
        status = register.tasks.get(row["task_id"], {}).get("status")
        if status is None or status in TERMINAL:
            yield f"{row['task_id']}: left in later ({row['what']}) while {status}"
    lines = [*register.live["ready"], *register.live["parked"]]
    for counter in register.backlog:
        counted = sum(
            row["tenant_id"] == counter["tenant_id"] and counter["queue"] in ("", row["queue"])
            for row in lines
        )
        if counted != counter["queued"]:
            name = f"{counter['tenant_id']}/{counter['queue']}"
            yield f"backlog of {name}: {counter['queued']}, not {counted}"


# -- one task ---------------------------------------------------------------------------------------


def _ended_once(register: Register, task: Row) -> Iterable[str]:
    """One terminal state for each life, written once, last, and with its time."""
    states = _states(register, task)
    if task["status"] not in TERMINAL:
        yield f"not ended: {task['status']}"
    if (task["status"] in TERMINAL) != (task["finished_at"] is not None):
        yield f"{task['status']} with finished_at {task['finished_at']}"
    ends = [state for state in states if state["status"] in TERMINAL]
    if len(ends) > task["life"]:
        yield f"ended {len(ends)} times in {task['life']} lives"
    if states and states[-1]["status"] != task["status"]:
        yield f"the last event says {states[-1]['status']}, the row {task['status']}"


def _chained(register: Register, task: Row) -> Iterable[str]:
    """Each state event begins where the one before ended."""
    before = None
    for state in _states(register, task):
        if state["from"] != before:
            yield f"an event leads from {state['from']} to {state['status']}, after {before}"
        before = state["status"]


def _numbered(register: Register, task: Row) -> Iterable[str]:
    """Events and log chunks share one row of numbers, without gap or double."""
    key = task["task_id"]
    numbers = sorted(
        [row["seq"] for row in register.events.get(key, [])]
        + [row["seq"] for row in register.chunks.get(key, [])]
    )
    if numbers != list(range(1, task["last_seq"] + 1)):
        yield f"event numbers {numbers} of {task['last_seq']}"


def _runs_in_order(register: Register, task: Row) -> Iterable[str]:
    """Attempts are numbered, closed, one after the other, and at most one was successful."""
    runs = register.runs.get(task["task_id"], [])
    if [run["attempt"] for run in runs] != list(range(1, task["attempt"] + 1)):
        yield f"runs {[run['attempt'] for run in runs]} of {task['attempt']}"
    for run in runs:
        if run["status"] == "running" and task["status"] in TERMINAL:
            yield f"run {run['attempt']} still runs"
        if run["finished_at"] is not None and run["finished_at"] < run["started_at"]:
            yield f"run {run['attempt']} ended before it began"
    for one, other in pairwise(runs):
        if one["finished_at"] is None or other["started_at"] < one["finished_at"]:
            yield f"runs {one['attempt']} and {other['attempt']} overlap"
    good = [run["attempt"] for run in runs if run["status"] == "completed"]
    if len(good) > 1 or bool(good) != (task["status"] == "completed"):
        yield f"{task['status']} with {len(good)} successful runs"
    claims = sum(state["status"] == "running" for state in _states(register, task))
    if claims != len(runs):
        yield f"{claims} events say that it started, {len(runs)} runs there are"


def _not_repeated(register: Register, task: Row) -> Iterable[str]:
    """What is not idempotent was not run again by the platform after its run had been cut short."""
    if task["idempotent"] or task[CHECKPOINTED] is not None:
        return
    runs = register.runs.get(task["task_id"], [])
    for one, other in pairwise(runs):
        if one["status"] in REPEATED_BY_THE_PLATFORM and one["life"] == other["life"]:
            yield f"not idempotent, and run again after attempt {one['attempt']} was {one['status']}"


def _fenced(register: Register, task: Row) -> Iterable[str]:
    """What a run said lies between its start and its end: nobody wrote for an attempt that was over."""
    key = task["task_id"]
    bounds: dict[int, list[int]] = {}
    for event in register.events.get(key, []):
        if event["kind"] == "state" and event["run"] is not None:
            bounds.setdefault(event["run"], []).append(event["seq"])
    said = [
        *register.chunks.get(key, []),
        *(row for row in register.events.get(key, []) if row["kind"] == "progress"),
    ]
    for row in said:
        first, last = min(bounds.get(row["run"], [0])), max(bounds.get(row["run"], [0]))
        if not first < row["seq"] < last:
            yield f"number {row['seq']} is of run {row['run']}, which lasted from {first} to {last}"


def _lines_once(register: Register, task: Row) -> Iterable[str]:
    """Each line of each run was stored once: the numbers of its lines are 1, 2, 3, …"""
    lines: dict[int, list[int]] = defaultdict(list)
    for chunk in register.chunks.get(task["task_id"], []):
        lines[chunk["run"]] += range(chunk["first_line"], chunk["first_line"] + len(chunk["lines"]))
    for run, numbers in lines.items():
        if sorted(numbers) != list(range(1, len(numbers) + 1)):
            yield f"line numbers of run {run}: {numbers}"


def _replayed(register: Register, task: Row) -> Iterable[str]:
    """The events alone, replayed, give the row."""
    key = task["task_id"]
    logs = [{"seq": chunk["seq"], "kind": "log", "data": {}} for chunk in register.chunks.get(key, [])]
    events = sorted([*register.events.get(key, []), *logs], key=lambda event: int(event["seq"]))
    try:
        told = replay(events)
    except BadHistory as problem:
        yield f"its events are no history: {problem}"
        return
    for column in REPLAYED:
        if getattr(told, column) != task[column]:
            yield f"{column} is {task[column]!r}, and {getattr(told, column)!r} by its events"


RULES: tuple[Callable[[Register, Row], Iterable[str]], ...] = (
    _ended_once,
    _chained,
    _numbered,
    _runs_in_order,
    _not_repeated,
    _fenced,
    _lines_once,
    _replayed,
)


def _states(register: Register, task: Mapping[str, Any]) -> list[Row]:
    events = register.events.get(task["task_id"], [])
    return [event["data"] for event in events if event["kind"] == "state"]


def _grouped(rows: Iterable[Row]) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["task_id"]].append(row)
    return dict(groups)
