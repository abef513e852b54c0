"""Who gets how much, and how long the others wait for it, on a real platform.

``python -m bench.fairness``. First two tenants of weights 1 and 4, both with more work than they can
get done, each with tasks of its own three lengths but of one type: their worker-seconds inside one
window, from the run rows, must be as their weights. Then a small tenant, which may run two tasks at
once and comes with ten at a time, first alone and then beside a neighbour without limits who has
100,000 tasks of four lengths in line; what it submits to ``critical`` must start within a second
meanwhile.

Its work is within its share of the slots (two of eight), as a small tenant's is. A tenant that asks for
all slots gets its share of them when another one comes, and one slot must become free before the first
task of a series can start: that part is told apart.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

import psycopg

from bench.backlog import multiply
from bench.platforms import KEEP_DISPATCHED, Platform, started, state_folder, submit, wait_until
from bench.report import Report, Target, command
from bench.servers import percentile

SLOTS = 8
POOLS = f"critical=2,normal={SLOTS}"
QUEUE = "normal"
WEIGHTS = {"light": 1, "heavy": 4}
# Seconds that each one's tasks sleep, in equal numbers. Whatever the order is, a window may begin and
# end with light a task ahead or behind, and with what runs charged as its type's mean: 2 of the 240
# worker-seconds that light gets in 150 s.
LENGTHS = {"light": (0.2, 0.4, 0.8), "heavy": (0.3, 0.5, 0.7)}
SETTLE_SECONDS = 5.0
SERIES, SERIES_LENGTH = 3, 10
SMALL_LIMIT = 2
SMALL_SECONDS = 0.8
# Of several lengths, or all slots would become free in step, and nobody between two steps.
NEIGHBOURS_SECONDS = (0.5, 0.7, 0.9, 1.1)
CRITICAL = 10
PATIENCE = 180.0

# Worker-seconds of each tenant inside a window; a run that still goes on counts until now.
SHARES = """
SELECT t.slug, sum(extract(epoch FROM least(coalesce(r.finished_at, w.until), w.until)
                                    - greatest(r.started_at, w.since)))::float8
  FROM (SELECT to_timestamp(%s) AS since, to_timestamp(%s) AS until) w, run r
  JOIN task k ON k.id = r.task_id JOIN tenants_tenant t ON t.id = k.tenant_id
 WHERE r.started_at < w.until AND coalesce(r.finished_at, w.until) > w.since
 GROUP BY t.slug
"""
WAITING = "SELECT count(*) FROM ready r JOIN tenants_tenant t ON t.id = r.tenant_id WHERE t.slug = %s"
ENDED = "SELECT count(*) = %s FROM task WHERE id = ANY(%s::uuid[]) AND finished_at IS NOT NULL"
# In line, and from the dispatcher's decision to the worker's claim.
WAITS = """
SELECT extract(epoch FROM d.at - t.queued_at)::float8 * 1000,
       extract(epoch FROM t.started_at - d.at)::float8 * 1000
  FROM task t JOIN bench_dispatched d ON d.task_id = t.id
 WHERE t.id = ANY(%s::uuid[]) ORDER BY t.ordinal
"""


class Wait(NamedTuple):
    """How long a task waited, in ms: in its line, and then for a worker that claimed it."""

    line: float
    worker: float

    @property
    def whole(self) -> float:
        """From queued to started."""
        return self.line + self.worker


def weighed(platform: Platform, database: psycopg.Connection[Any], seconds: float) -> dict[str, float]:
    """Let both tenants want more than there is for so long; gives the worker-seconds of each."""
    platform.pause(QUEUE)
    for slug, weight in WEIGHTS.items():
        token = platform.new_tenant(slug)
        platform.limit(slug, weight=weight)
        for length in LENGTHS[slug]:
            request = platform.submission("test.dummy", {"seconds": length}, tenant=slug, token=token)
            submit(platform, request, 1)
    _shuffle(database, lots=int(seconds * SLOTS / min(map(min, LENGTHS.values())) / 6) + 20)
    platform.resume(QUEUE)
    time.sleep(SETTLE_SECONDS)
    since = _now(database)
    time.sleep(seconds)
    found = dict(database.execute(SHARES, [since, _now(database)]).fetchall())
    for slug in WEIGHTS:
        row = database.execute(WAITING, [slug]).fetchone()
        if row is None or row[0] == 0:
            raise RuntimeError(f"{slug} has run out of work: its share says nothing")
    _clear(platform, database)
    return found


def _shuffle(database: psycopg.Connection[Any], lots: int) -> None:
    """Copy what is in line ``lots`` times over, task by task in turn, so that all lengths come often."""
    tasks = [str(task) for (task,) in database.execute("SELECT task_id FROM ready ORDER BY ordinal")]
    for _ in range(lots):
        for task in tasks:
            multiply(database, task, 1)


def series(platform: Platform, database: psycopg.Connection[Any], request: bytes) -> list[list[Wait]]:
    """Submit one series of the small tenant's tasks after the other; gives the waits of each."""
    found = []
    for _ in range(SERIES):
        ids = submit(platform, request, SERIES_LENGTH)
        wait_until(database, ENDED, [len(ids), ids], PATIENCE)
        found.append(_waits_of(database, ids))
    return found


def critical(platform: Platform, database: psycopg.Connection[Any], token: str) -> list[float]:
    """Submit urgent tasks one by one; gives their waits in ms."""
    request = platform.submission("test.dummy", {}, tenant="small", token=token, queue="critical")
    ids: list[str] = []
    for _ in range(CRITICAL):
        ids += submit(platform, request, 1)
        wait_until(database, ENDED, [len(ids), ids], PATIENCE)
    return [each.whole for each in _waits_of(database, ids)]


def neighbour(platform: Platform, database: psycopg.Connection[Any], count: int) -> None:
    """Put a backlog in line for a tenant without limits, and wait until it has taken all slots."""
    token = platform.new_tenant("neighbour")
    platform.pause(QUEUE)
    tasks = []
    for length in NEIGHBOURS_SECONDS:
        request = platform.submission("test.dummy", {"seconds": length}, tenant="neighbour", token=token)
        tasks += submit(platform, request, 1)
    for _ in range(SLOTS):  # the first of them in turn; the slots stay out of step then
        for task in tasks:
            multiply(database, task, 1)
    for task in tasks:
        multiply(database, task, count // len(tasks) - SLOTS - 1)
    database.execute("VACUUM ANALYZE ready")
    platform.resume(QUEUE)
    wait_until(
        database,
        "SELECT count(*) >= %s FROM inflight WHERE state = 'running' AND queue = %s",
        [SLOTS, QUEUE],
        PATIENCE,
    )


def _waits_of(database: psycopg.Connection[Any], ids: list[str]) -> list[Wait]:
    return [Wait(*row) for row in database.execute(WAITS, [ids]).fetchall()]


def _now(database: psycopg.Connection[Any]) -> float:
    row = database.execute("SELECT extract(epoch FROM clock_timestamp())::float8").fetchone()
    assert row is not None
    return float(row[0])


def _clear(platform: Platform, database: psycopg.Connection[Any]) -> None:
    """Take what is still in line out, and wait for what runs."""
    platform.pause(QUEUE)
    database.execute("DELETE FROM ready")
    wait_until(database, "SELECT count(*) = 0 FROM inflight WHERE queue = %s", [QUEUE], PATIENCE)
    platform.resume(QUEUE)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what narrows a measurement down."""
    parser.add_argument("--seconds", type=float, help="of the shares' window, by default 150")
    parser.add_argument("--backlog", type=int, help="of the neighbour, by default 100,000")


def run(options: argparse.Namespace) -> Report:
    """Measure shares and waits on one platform."""
    seconds = options.seconds or (15.0 if options.quick else 150.0)
    backlog = options.backlog or (2_000 if options.quick else 100_000)
    with (
        state_folder() as state,
        started(state, level="process", pools=POOLS) as platform,
        platform.database() as database,
    ):
        database.execute(KEEP_DISPATCHED)
        shares = weighed(platform, database, seconds)
        token = platform.new_tenant("small")
        platform.limit("small", running=SMALL_LIMIT)
        request = platform.submission(
            "test.dummy", {"seconds": SMALL_SECONDS}, tenant="small", token=token
        )
        submit(platform, request, 1)
        alone = series(platform, database, request)
        calm = critical(platform, database, token)
        neighbour(platform, database, backlog)
        beside = series(platform, database, request)
        urgent = critical(platform, database, token)
    report = Report(raw={"shares": shares, "alone": alone, "beside": beside, "critical": urgent})
    _shares(report, shares, seconds)
    _waits(report, alone, beside, backlog)
    report.at_most("longest wait of critical beside that backlog", max(urgent), 1000, unit=" ms")
    report.say(
        f"`critical`: {CRITICAL} tasks one by one, waits p50 {percentile(calm, 0.5):.0f} ms and at most "
        f"{max(calm):.0f} ms before the neighbour came, p50 {percentile(urgent, 0.5):.0f} ms beside it."
    )
    return report


def _shares(report: Report, shares: dict[str, float], seconds: float) -> None:
    light, heavy = shares["light"], shares["heavy"]
    off = heavy / light / (WEIGHTS["heavy"] / WEIGHTS["light"]) - 1
    name = "worker-seconds of weights 1:4, unequal lengths"
    told = f"1:{heavy / light:.2f} ({off:+.1%})"
    report.targets.append(Target(name, "1:4 ± 2 %", told, abs(off) <= 0.02))
    report.say(
        f"{SLOTS} slots for {seconds:g} s, both always with work in line: light {light:.1f} and heavy "
        f"{heavy:.1f} worker-seconds; light's tasks sleep {_told(LENGTHS['light'])} s, heavy's "
        f"{_told(LENGTHS['heavy'])} s, all of one type."
    )


def _waits(
    report: Report, alone: Sequence[list[Wait]], beside: Sequence[list[Wait]], backlog: int
) -> None:
    before, after = (
        statistics.median(wait.whole for wait in chain(*found)) for found in (alone, beside)
    )
    name = f"small tenant's median wait beside a backlog of {backlog:,}, against alone"
    report.at_most(name, after / before, 1.2, form=".2f")
    rows = []
    for what, found in (("alone", alone), (f"beside {backlog:,}", beside)):
        every, firsts = list(chain(*found)), [each[0] for each in found]
        parts = (("all", every), ("each series' first", firsts))
        for which, waits in parts:
            columns = zip(*((wait.whole, wait.line, wait.worker) for wait in waits), strict=True)
            rows.append((what, which, *map(statistics.median, columns)))
    report.say(
        f"The small tenant may run {SMALL_LIMIT} tasks at once, on {SLOTS} slots; {SERIES} series of "
        f"{SERIES_LENGTH} tasks of {SMALL_SECONDS} s. Medians in ms, from queued to started:"
    )
    report.table(("small tenant", "tasks", "whole wait", "in line", "dispatched to started"), rows)


def _told(lengths: tuple[float, ...]) -> str:
    return ", ".join(map(str, lengths))


if __name__ == "__main__":
    command(run, __doc__, arguments)
