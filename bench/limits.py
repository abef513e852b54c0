"""A limit of five under forty clients at once: is it ever exceeded, also while supervisors are killed?

``python -m bench.limits``. Forty clients submit tasks of a tenant that may run five at once, on a pool
of eight slots, each waiting for the end of its task before the next. Two witnesses: what is in flight
is counted all the time, and from the run rows follows exactly how many runs there were at once. Then
the same again while each second the supervisor of one run is killed with SIGKILL.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Any

import psycopg

from bench.platforms import Platform, started, state_folder
from bench.report import Report, Target, command
from bench.servers import Client, request_bytes

CLIENTS, LIMIT, SLOTS = 40, 5, 8
POOLS = f"normal={SLOTS}"
LENGTHS = (0.05, 0.2, 0.4)
SAMPLE_SECONDS = 0.005
KILL_SECONDS = 1.0
PATIENCE = 300.0
SLUG = "limited"
TERMINAL = ("completed", "failed", "cancelled", "dropped")

IN_FLIGHT = (
    "SELECT count(*) FROM inflight WHERE tenant_id = (SELECT id FROM tenants_tenant WHERE slug = %s)"
)
# +1 at each begin and -1 at each end, in order of time; at the same moment ends come first.
AT_ONCE = """
SELECT coalesce(max(level), 0)::int FROM (
  SELECT sum(step) OVER (ORDER BY at, step ROWS UNBOUNDED PRECEDING) AS level FROM (
    SELECT started_at AS at, 1 AS step FROM run WHERE task_id = ANY(%(ids)s::uuid[])
    UNION ALL
    SELECT finished_at, -1 FROM run WHERE task_id = ANY(%(ids)s::uuid[]) AND finished_at IS NOT NULL
  ) steps) levels
"""
RUNS = "SELECT status, count(*) FROM run WHERE task_id = ANY(%s::uuid[]) GROUP BY status ORDER BY status"
VICTIM = """
SELECT r.pid FROM run r JOIN task t ON t.id = r.task_id JOIN tenants_tenant n ON n.id = t.tenant_id
 WHERE r.status = 'running' AND n.slug = %s ORDER BY random() LIMIT 1
"""


@dataclass
class Phase:
    """One phase: tasks, runs by how they ended, samples, the most that were seen and that there were."""

    name: str
    tasks: int
    runs: dict[str, int]
    samples: int
    most_seen: int
    most_at_once: int
    seconds: float
    killed: int = 0


class Sampler(threading.Thread):
    """Counts what is in flight, over and over, until told to stop."""

    def __init__(self, platform: Platform) -> None:
        super().__init__(name="sampler")
        self.samples = self.most = 0
        self._database = platform.database()
        self._over = threading.Event()

    def run(self) -> None:
        """Sample."""
        while not self._over.wait(SAMPLE_SECONDS):
            row = self._database.execute(IN_FLIGHT, [SLUG]).fetchone()
            self.most = max(self.most, row[0] if row else 0)
            self.samples += 1
        self._database.close()

    def stop(self) -> None:
        """Stop and wait for the last sample."""
        self._over.set()
        self.join()


@contextmanager
def killing(database: psycopg.Connection[Any], wanted: bool) -> Iterator[list[int]]:
    """Kill the supervisor of one run each second while the context lasts; gives who was killed."""
    over, victims = threading.Event(), list[int]()

    def kill() -> None:
        while not over.wait(KILL_SECONDS):
            row = database.execute(VICTIM, [SLUG]).fetchone()
            if row and row[0]:
                with suppress(ProcessLookupError):
                    os.kill(row[0], signal.SIGKILL)
                    victims.append(row[0])

    killer = threading.Thread(target=kill, name="killer")
    if wanted:
        killer.start()
    try:
        yield victims
    finally:
        over.set()
        if wanted:
            killer.join()


def one_client(platform: Platform, token: str, number: int, count: int) -> list[str]:
    """Submit tasks one after the other, each when the one before has ended; gives their ids."""
    client, dice, ids = Client(platform.port), random.Random(number), []
    for _ in range(count):
        params = {"seconds": dice.choice(LENGTHS)}
        request = platform.submission("test.dummy", params, tenant=SLUG, token=token)
        status, body, _ = client.ask(request)
        if status != 201:
            raise RuntimeError(f"{status}: {body[:500]!r}")
        ids.append(str(json.loads(body)["id"]))
        path = f"/api/v1/tenants/{SLUG}/tasks/{ids[-1]}/wait?timeout=20"
        deadline = time.monotonic() + PATIENCE
        while True:
            status, body, _ = client.ask(request_bytes("GET", path, token))
            if status == 200 and json.loads(body)["status"] in TERMINAL:
                break
            if status != 200 or time.monotonic() > deadline:
                raise RuntimeError(f"task {ids[-1]} did not end: {status} {body[:300]!r}")
    client.close()
    return ids


def phase(platform: Platform, name: str, token: str, count: int, *, kills: bool) -> Phase:
    """Let all clients work at once; gives what the two witnesses saw."""
    with platform.database() as database, platform.database() as for_kills:
        sampler = Sampler(platform)
        sampler.start()
        began = time.monotonic()
        try:
            with killing(for_kills, kills) as victims, ThreadPoolExecutor(CLIENTS) as pool:
                shares = [
                    pool.submit(one_client, platform, token, number, count) for number in range(CLIENTS)
                ]
                ids = [task for share in shares for task in share.result()]
        finally:
            sampler.stop()
        row = database.execute(AT_ONCE, {"ids": ids}).fetchone()
        assert row is not None
        return Phase(
            name=name,
            tasks=len(ids),
            runs=dict(database.execute(RUNS, [ids]).fetchall()),
            samples=sampler.samples,
            most_seen=sampler.most,
            most_at_once=row[0],
            seconds=time.monotonic() - began,
            killed=len(victims),
        )


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what narrows a measurement down."""
    parser.add_argument("--tasks", type=int, help="of each client in each phase, by default 4")


def run(options: argparse.Namespace) -> Report:
    """Measure both phases on one platform."""
    count = options.tasks or (1 if options.quick else 4)
    with (
        state_folder() as state,
        started(state, level="process", pools=POOLS) as platform,
    ):
        token = platform.new_tenant(SLUG)
        platform.limit(SLUG, running=LIMIT)
        phases = [
            phase(platform, "undisturbed", token, count, kills=False),
            phase(platform, "a supervisor killed each second", token, count, kills=True),
        ]
    report = Report(raw={"phases": [asdict(each) for each in phases]})
    for each in phases:
        most = max(each.most_seen, each.most_at_once)
        # A limit that was never reached was not tried.
        met = most <= LIMIT if most >= LIMIT else None
        name = f"{CLIENTS} clients against a limit of {LIMIT}, {each.name}: most at once"
        report.targets.append(Target(name, f"≤ {LIMIT}", str(most), met))
    report.table(
        (
            "phase",
            "tasks",
            "runs",
            "killed",
            "samples",
            "most seen",
            "most at once by the runs",
            "seconds",
        ),
        [
            (
                each.name,
                each.tasks,
                ", ".join(f"{number} {status}" for status, number in each.runs.items()),
                each.killed,
                each.samples,
                each.most_seen,
                each.most_at_once,
                each.seconds,
            )
            for each in phases
        ],
    )
    return report


if __name__ == "__main__":
    command(run, __doc__, arguments)
