"""From the POST to the first line of the handler, on a platform that has nothing else to do.

``python -m bench.latency`` starts a platform for each isolation level, as `up` starts it, and submits
one task after the other, with pauses of uneven length so that no poll of the platform's keeps step with
them. The last moment is the handler's own: its first act is to print the clock. In between are what the
platform writes down itself: when the task was stored, when the dispatcher decided, when the worker
claimed. All are clocks of one machine.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

import psycopg

from bench.platforms import KEEP_DISPATCHED, Platform, started, state_folder, wait_until
from bench.report import Report, command
from bench.servers import Client, percentile

LEVELS = ("process", "full")
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "handler": ("test.dummy", {"tell_time": True}),
    "command": ("shell.command", {"command": ["date", "+%s%N"]}),
}
POOLS = "critical=2,normal=2,batch=2"
WARM = 5
PAUSE_SECONDS = (0.02, 0.12)
PATIENCE = 60.0
STEPS = ("POST to stored", "stored to dispatched", "dispatched to claimed", "claimed to first line")

ENDED = "SELECT finished_at IS NOT NULL FROM task WHERE id = %s"
TIMES = """
SELECT t.status, extract(epoch FROM t.created_at)::float8, extract(epoch FROM d.at)::float8,
       extract(epoch FROM r.started_at)::float8, l.lines[1]
  FROM task t JOIN run r ON r.task_id = t.id JOIN bench_dispatched d ON d.task_id = t.id
  JOIN log_chunk l ON l.task_id = t.id AND l.first_line = 1
 WHERE t.id = %s
"""


@dataclass
class Measured:
    """Milliseconds of each task: step by step, to the answer of the POST, and in all."""

    steps: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in STEPS})
    answers: list[float] = field(default_factory=list)
    totals: list[float] = field(default_factory=list)

    def add(self, moments: list[float], answered: float) -> None:
        """Add one task: its moments in seconds, in order, and when the POST was answered."""
        for name, (before, after) in zip(STEPS, pairwise(moments), strict=True):
            self.steps[name].append((after - before) * 1000)
        self.answers.append((answered - moments[0]) * 1000)
        self.totals.append((moments[-1] - moments[0]) * 1000)


def one(client: Client, request: bytes, database: psycopg.Connection[Any]) -> tuple[list[float], float]:
    """Submit one task and wait for its end; gives its moments and when the POST was answered."""
    posted = time.time()
    status, body, took = client.ask(request)
    if status != 201:
        raise RuntimeError(f"{status}: {body[:500]!r}")
    task = json.loads(body)["id"]
    # Nobody asks the database anything while the task is on its way.
    time.sleep(0.1)
    wait_until(database, ENDED, [task], PATIENCE)
    row = database.execute(TIMES, [task]).fetchone()
    if row is None or row[0] != "completed":
        raise RuntimeError(f"task {task} did not complete as it should: {row}")
    created, dispatched, claimed, line = row[1:]
    return [posted, created, dispatched, claimed, int(line) / 1e9], posted + took / 1000


def measure(platform: Platform, kind: str, count: int) -> Measured:
    """Submit ``count`` tasks of one kind, one after the other."""
    measured, dice, client = Measured(), random.Random(1), Client(platform.port)
    type_name, params = KINDS[kind]
    request = platform.submission(type_name, params)
    with platform.database() as database:
        database.execute(KEEP_DISPATCHED)
        for number in range(WARM + count):
            found = one(client, request, database)
            if number >= WARM:
                measured.add(*found)
            time.sleep(dice.uniform(*PAUSE_SECONDS))
    client.close()
    return measured


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what narrows a measurement down."""
    parser.add_argument("--levels", default=",".join(LEVELS))
    parser.add_argument("--tasks", type=int, help="of each kind, by default 200")


def run(options: argparse.Namespace) -> Report:
    """Measure each level."""
    count = options.tasks or (20 if options.quick else 200)
    found: dict[tuple[str, str], Measured] = {}
    with state_folder() as state:
        for level in options.levels.split(","):
            with started(state, level=level, pools=POOLS) as platform:
                for kind in KINDS:
                    found[level, kind] = measure(platform, kind, count)
    report = Report(raw={f"{level} {kind}": asdict(each) for (level, kind), each in found.items()})
    for (level, kind), each in found.items():
        if level == "process":
            name = f"POST to first line, {kind}, level {level}"
            report.at_most(f"{name}, p50", percentile(each.totals, 0.5), 30, unit=" ms")
            report.at_most(f"{name}, p99", percentile(each.totals, 0.99), 60, unit=" ms")
    report.say(f"{count} tasks each, one after the other; milliseconds, p50 / p99:")
    names = ("in all", *STEPS, "POST to answer")
    rows = []
    for (level, kind), each in found.items():
        parts = (each.totals, *each.steps.values(), each.answers)
        told = [f"{percentile(part, 0.5):.1f} / {percentile(part, 0.99):.1f}" for part in parts]
        rows.append((level, kind, *told))
    report.table(("level", "what", *names), rows)
    return report


if __name__ == "__main__":
    command(run, __doc__, arguments)
