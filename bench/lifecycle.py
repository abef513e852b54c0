"""The whole life of a run, against RQ's fork per job, stock Celery, and the floor.

``python -m bench.lifecycle`` starts a platform for each isolation level and number of slots,
as `up` starts it. A backlog of tasks that do nothing is submitted over HTTP while its queue is paused,
then the queue is resumed: the dispatcher decides, workers claim, handlers run, ends are written. Runs a
second are from the first claim to the last end, as the run rows say. In turns with that RQ works off as
many jobs with one query on the same PostgreSQL and Valkey; its rate is from the first job's begin to the
last one's end. The platform idles meanwhile. What counts is the ratio within a turn.

CPU per run is told by kind of process (:mod:`bench.accounting`), submitting and idling not counted.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import psycopg

from bench.accounting import look, used
from bench.peers import measuring
from bench.platforms import Platform, started, state_folder, submit, wait_until
from bench.report import Report, command

QUEUE = "normal"
STOCK = "celery-fresh"
# At level `full` one number of slots has to do: all parts together have their budget of time.
LEVELS = {"process": (2, 4), "full": (4,)}
ROUNDS = 5
# Those that are far away from us show it in fewer rounds, which take them long.
SELDOM = {STOCK: 1, "celery-kept": 1, "procrastinate": 1, "floor": 1}
# What is submitted: a handler in Python, and a program without Python.
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "handler": ("test.dummy", {}),
    "command": ("shell.command", {"command": ["true"]}),
}
PATIENCE = 300.0
WARM = 10
IDLE_SECONDS = 2.0
# Beside the run: their share is told, and is no part of the cost of a run.
BESIDE = ("web", "beat", "up", "system worker", "postgres: web", "postgres: bench")

ENDED = "SELECT count(*) = %s FROM run WHERE task_id = ANY(%s::uuid[]) AND status <> 'running'"
# While a type is new, supervisors check its tasks' params once more (tasks.services.claim).
SETTLED = "SELECT max(updated_at) < now() - interval '10 s' FROM task_type"
# One run per task, or the platform ran something twice; that is no benchmark's business to forgive.
PACE = """
SELECT count(*), count(*) FILTER (WHERE status = 'completed'),
       extract(epoch FROM max(finished_at) - min(started_at))::float, sum(cpu_seconds)::float
  FROM run WHERE task_id = ANY(%s::uuid[])
"""


@dataclass
class Series:
    """What all rounds of one kind gave: runs a second, and CPU ms per run by kind of process."""

    rates: list[float] = field(default_factory=list)
    cpu: list[dict[str, float]] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """The median."""
        return statistics.median(self.rates)

    def cpu_ms(self) -> dict[str, float]:
        """Medians by kind of process, the largest first."""
        kinds = {kind for each in self.cpu for kind in each}
        found = {kind: statistics.median(each.get(kind, 0.0) for each in self.cpu) for kind in kinds}
        return dict(sorted(found.items(), key=lambda item: -item[1]))


@dataclass
class Place:
    """What was measured with one platform, at one isolation level and number of slots."""

    level: str
    slots: int
    series: dict[str, Series] = field(default_factory=dict)

    def of(self, kind: str) -> Series:
        """Return the series of a kind."""
        return self.series.setdefault(kind, Series())

    def ratio(self, kind: str, other: str) -> float:
        """How much faster one was than the other in the same turn: the median of their turns.

        The machine's own speed changes from minute to minute, and within a turn it is nearly one.
        """
        pairs = zip(self.of(kind).rates, self.of(other).rates, strict=False)
        return statistics.median(ours / theirs for ours, theirs in pairs)


def one_round(platform: Platform, database: psycopg.Connection[Any], kind: str, count: int) -> Series:
    """Let the platform work off a backlog once; gives a series of one."""
    type_name, params = KINDS[kind]
    platform.pause(QUEUE)
    ids = submit(platform, platform.submission(type_name, params, queue=QUEUE), count)
    before = look(platform.pid, database)
    platform.resume(QUEUE)
    wait_until(database, ENDED, [count, ids], PATIENCE)
    # The last supervisors still wipe their workspaces; buried, their time is in the worker's account.
    time.sleep(0.3)
    spent = used(before, look(platform.pid, database))
    row = database.execute(PACE, [ids]).fetchone()
    assert row is not None
    runs, completed, seconds, handlers = row
    if not runs == completed == count:
        raise RuntimeError(f"{count} tasks: {runs} runs, {completed} completed")
    both = spent.pop("supervisors and handlers", 0.0)
    spent |= Counter({"handlers": handlers, "supervisors": both - handlers})  # type: ignore[dict-item]
    return Series([count / seconds], [{name: each * 1000 / count for name, each in spent.items()}])


def in_turns(platform: Platform, place: Place, rounds: int, count: int, others: list[str]) -> None:
    """Let ours and the peers take turns on the same servers, ``rounds`` times."""
    with platform.database() as database:
        for kind in KINDS:
            one_round(platform, database, kind, WARM)
        wait_until(database, SETTLED, [], PATIENCE)
        for turn in range(rounds):
            for kind in KINDS:
                found = one_round(platform, database, kind, count)
                place.of(kind).rates += found.rates
                place.of(kind).cpu += found.cpu
            for kind in others:
                if turn >= SELDOM.get(kind, rounds):
                    continue
                # A child of stock Celery takes so long that fewer show it as well; but now and then one
                # of its slots is empty for five seconds, and a handful would show that or not.
                jobs = max(10, count * 3 // 5) if kind == STOCK else count
                before = look(platform.pid, database)
                seen = measuring.measure(
                    kind,
                    slots=place.slots,
                    jobs=jobs,
                    redis_url=platform.redis_url,
                    database_url=platform.database_url,
                )
                servers = _servers(used(before, look(platform.pid, database)), jobs)
                place.of(kind).rates.append(seen.rate)
                place.of(kind).cpu.append({"workers and jobs": seen.cpu_ms, **servers})


def _servers(spent: Counter[str], jobs: int) -> dict[str, float]:
    """CPU ms per job of PostgreSQL and Valkey while a peer ran, its start included."""
    postgres = sum(each for kind, each in spent.items() if kind.startswith("postgres"))
    return {"postgres": postgres * 1000 / jobs, "valkey": spent["valkey"] * 1000 / jobs}


def idle(platform: Platform) -> dict[str, float]:
    """CPU ms a second of a platform that has nothing to do, by kind of process."""
    with platform.database() as database:
        before = look(platform.pid, database)
        time.sleep(IDLE_SECONDS)
        spent = used(before, look(platform.pid, database))
    return {kind: each * 1000 / IDLE_SECONDS for kind, each in spent.most_common() if each > 0}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what narrows a measurement down, for who works on the cost of a run."""
    parser.add_argument("--levels", default=",".join(LEVELS))
    parser.add_argument("--slots", help="numbers of slots, by default 2,4 and at level full 4")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--runs", type=int, help="per round and kind of task")
    parser.add_argument("--no-peers", action="store_true")


def places(options: argparse.Namespace) -> Iterator[tuple[Place, dict[str, float]]]:
    """Measure each level with each number of slots; gives what was found, and what idling costs."""
    quick, levels = options.quick, options.levels.split(",")
    rounds, count = options.rounds or (1 if quick else ROUNDS), options.runs or (30 if quick else 120)
    asked = [int(each) for each in (options.slots or ("2" if quick else "")).split(",") if each]
    if not options.no_peers:
        measuring.python()
    with state_folder() as state:
        for level in levels:
            for number in asked or LEVELS[level]:
                place = Place(level, number)
                others = [] if options.no_peers else ["rq", STOCK]
                if others and level == levels[0]:
                    # What is no target's peer is measured once per number of slots.
                    others += measuring.OTHERS
                with started(state, level=level, pools=f"{QUEUE}={number}") as platform:
                    in_turns(platform, place, rounds, count, others)
                    yield place, idle(platform)


def run(options: argparse.Namespace) -> Report:
    """Measure everything and compare."""
    report, found, idling = Report(), [], {}
    for place, resting in places(options):
        found.append(place)
        idling = resting
    report.raw = {"places": [asdict(place) for place in found], "idle": idling}
    if not options.no_peers:
        _targets(report, found)
    _pace(report, found)
    _cost(report, found)
    cost = ", ".join(f"{kind} {each:.1f}" for kind, each in idling.items())
    report.say(f"A platform with nothing to do uses, in CPU ms a second: {cost or 'nothing'}.")
    return report


def _targets(report: Report, found: list[Place]) -> None:
    for place in found:
        where = f"level {place.level}, {place.slots} slots"
        for kind in KINDS:
            wanted = 1.0 if place.level == "process" else 0.6
            report.at_least(f"runs/s, {kind}, {where}, against RQ", place.ratio(kind, "rq"), wanted)
            report.at_least("… against stock Celery, a child per task", place.ratio(kind, STOCK), 4.0)


def _pace(report: Report, found: list[Place]) -> None:
    rows = [
        (
            place.level,
            place.slots,
            kind,
            each.rate,
            min(each.rates),
            max(each.rates),
            _run_ms(each.cpu_ms()),
        )
        for place in found
        for kind, each in place.series.items()
    ]
    head = ("platform's level", "slots", "what", "runs/s, median", "least", "most", "CPU ms/run")
    report.table(head, rows)


def _run_ms(cpu: dict[str, float]) -> float:
    return sum(each for kind, each in cpu.items() if kind not in BESIDE)


def _cost(report: Report, found: list[Place]) -> None:
    """Tell CPU ms per run by kind of process, one column per place and kind of task."""
    columns = [(place, kind) for place in found for kind in KINDS]
    names = list(dict.fromkeys(name for place, kind in columns for name in place.of(kind).cpu_ms()))
    rows = [
        (name, *(place.of(kind).cpu_ms().get(name, 0.0) for place, kind in columns)) for name in names
    ]
    report.say("CPU ms per run by kind of process (medians):")
    report.table(
        ("process", *(f"{place.level} {place.slots}, {kind}" for place, kind in columns)),
        [row for row in rows if any(each >= 0.005 for each in row[1:] if isinstance(each, float))],
    )


if __name__ == "__main__":
    command(run, __doc__, arguments)
