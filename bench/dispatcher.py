"""Decisions a second over a backlog of a million tasks of ten thousand tenants.

``python -m bench.dispatcher`` starts PostgreSQL and Valkey of its own, fills ``ready`` with rows whose
tenants are drawn by Zipf's law, and lets the dispatcher's own rounds decide: lanes in memory, one
committed statement per batch that deletes from ``ready`` and inserts into ``inflight``. Nothing is
published and no worker is needed; what was dispatched is taken out of ``inflight`` between rounds,
outside the measured time, as its ends would. As in production, the commit of a batch does not wait for
the disk.

Three backlogs, each in a schema of its own: all open; half of it blocked by limits; ten thousand ready.
They take turns, in another order each time, after one turn each that does not count, so neither the
order nor what was in memory decides; what a turn took is filled up again. Chores come as often as in
one go: each dispatcher's clock for them stands while others have their turns. Between the turns a new
leader's first look is measured. Then all open once more, while another transaction is held open, and
after it. At last a leader's process is killed, and the time is measured until a standby's process leads
and dispatches.

By default 200,000 tasks, in less than three minutes; ``--full`` is the million, the whole minute of the
open transaction, and longer turns. Processor time is told apart from the wall's, because it is what a
shared machine can still tell.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg

from bench.servers import ROOT, cpu_seconds, percentile, platform

if TYPE_CHECKING:
    from workers.dispatcher.loop import Dispatcher

TENANTS = 10_000
FEW = 10_000
TYPE = 1
WORKER = "00000000-0000-0000-0000-000000000007"
SECONDS = 60.0

MAKE_SCHEMA = """
CREATE SCHEMA {schema};
CREATE TABLE {schema}.ready (LIKE public.ready INCLUDING ALL);
ALTER TABLE {schema}.ready SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
CREATE TABLE {schema}.tenants_limit (LIKE public.tenants_limit INCLUDING ALL);
"""

FILL = """
INSERT INTO ready (task_id, queue, tenant_id, rank, ordinal, epoch, type_id, preemptible)
SELECT uuidv7(), 'normal', tenant, 0, nextval('task_ordinal'), 1, %(type)s, false
  FROM (SELECT n, least(%(tenants)s, floor(exp(random() * ln(%(tenants)s + 1.0)))::bigint) AS tenant
          FROM generate_series(1, %(count)s) n) drawn
RETURNING tenant_id
"""

# The largest tenants that together have half of the backlog may run nothing.
BLOCK = """
INSERT INTO tenants_limit (id, tenant_id, queue, running, weight, version)
SELECT tenant_id, tenant_id, '', 0, 1, 1
  FROM (SELECT tenant_id, sum(count(*)) OVER (ORDER BY count(*) DESC, tenant_id) AS upto
          FROM ready GROUP BY tenant_id) counted
 WHERE upto <= (SELECT count(*) / 2 FROM ready)
"""

MAKE_TENANTS = """
INSERT INTO tenants_tenant (id, uid, slug, name, paused, network_permitted, is_first, version)
SELECT n, gen_random_uuid(), 'team-' || n, 'Team', false, false, false, 1
  FROM generate_series(1, %s) n ON CONFLICT DO NOTHING
"""

# A worker with as many slots as fit into one batch, which never falls silent.
MAKE_WORKER = """
INSERT INTO worker (id, name, queue, machine, host, pid, slots, busy, isolation, version, types,
                    handlers, status, started_at, seen_at)
SELECT %(id)s, 'normal-1', 'normal', 'm1', 'h1', 1, %(slots)s, 0, 'process', '1',
       jsonb_object_agg(name, version), '{}', 'alive', now(), now() + interval '1 day'
  FROM task_type
"""


class Silent:
    """Stands for the publisher: what is measured ends with the commit."""

    broker_down = False

    def publish(self, _bells: object) -> None:
        """Publish nothing."""

    def flush(self) -> None:
        """Publish nothing."""


@dataclass(slots=True)
class Measured:
    """What was measured of one backlog: seconds of the wall, of our processor and of the server's."""

    name: str
    beside: bool = False
    decisions: int = 0
    seconds: float = 0.0
    ours: float = 0.0
    servers: float = 0.0
    rounds: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)

    def line(self, base: Measured) -> str:
        """Return a line of the table; the ratio of turns beside each other is their middle one."""
        each = 1e6 / max(1, self.decisions)
        ratio = self.decisions / self.seconds / (base.decisions / base.seconds)
        if self.beside:
            ratio = percentile(
                [mine / its for mine, its in zip(self.rates, base.rates, strict=True)], 0.5
            )
        cpu = (self.ours + self.servers) / max(1, self.decisions)
        base_cpu = (base.ours + base.servers) / max(1, base.decisions)
        return (
            f"| {self.name} | {self.decisions:,} | {self.decisions / self.seconds:,.0f} | {ratio:.2f} "
            f"| {self.ours * each:.1f} + {self.servers * each:.1f} | {base_cpu / cpu:.2f} "
            f"| {percentile(self.rounds, 0.5):.1f} | {percentile(self.rounds, 0.99):.1f} |"
        )


class Backlog:
    """One backlog with a dispatcher that knows it, and takes the lead whenever it is its turn."""

    def __init__(self, name: str, schema: str, count: int, cursor: psycopg.Cursor[Any]) -> None:
        from workers.dispatcher.loop import CHORES
        from workers.dispatcher.pace import Pace

        self.measured = Measured(name, beside=True)
        self.looks: list[float] = []
        self._schema, self._count, self._cursor = schema, count, cursor
        self._left, self._away, self._left_at = 0, 0.0, time.monotonic()
        cursor.execute(MAKE_SCHEMA.format(schema=schema))
        self._path()
        self.fill(count)
        cursor.execute("VACUUM ANALYZE ready")
        self._dispatcher = new_dispatcher()
        self._dispatcher._pace = Pace(CHORES, lambda: time.monotonic() - self._away)

    def block_half(self) -> None:
        """Let limits hold the largest lanes, half of all tasks."""
        self._path()
        self._cursor.execute(BLOCK)

    def fill(self, count: int) -> set[str]:
        """Add tasks, and return the wake-ups of those who submitted them."""
        values = {"count": count, "tenants": TENANTS, "type": TYPE}
        self._cursor.execute(FILL, values)
        self._left += count
        return {f"normal:{row[0]}" for row in self._cursor.fetchall()}

    def first_look(self) -> None:
        """Measure how long a new leader takes until it knows everything."""
        self._path()
        dispatcher = new_dispatcher()
        began = time.perf_counter()
        lead(dispatcher, self._cursor)
        dispatcher._look({"*"})
        self.looks.append((time.perf_counter() - began) * 1000)

    def turn(self, decisions: int, into: Measured | None = None) -> None:
        """Let the dispatcher make so many decisions; in a first turn it learns what there is."""
        self._path()
        lead(self._dispatcher, self._cursor)
        self._away += time.monotonic() - self._left_at
        measured = into or Measured("")
        woken = {"*"} if into is None else set()
        before = measured.decisions, measured.seconds
        while measured.decisions < before[0] + decisions:
            woken = self._round(woken, measured)
        measured.rates.append((measured.decisions - before[0]) / (measured.seconds - before[1]))
        self._left_at = time.monotonic()
        self.fill(self._count - self._left)
        self._cursor.execute("VACUUM ready")

    def _round(self, woken: set[str], measured: Measured) -> set[str]:
        from tasks.wakeup import ENDED

        began = clocks()
        self._dispatcher._round(woken)
        wall, ours, servers = (now - then for now, then in zip(clocks(), began, strict=True))
        self._cursor.execute("DELETE FROM inflight")
        measured.decisions += self._cursor.rowcount
        measured.seconds += wall
        measured.ours += ours
        measured.servers += servers
        measured.rounds.append(wall * 1000)
        self._left -= self._cursor.rowcount
        # As ends tell of themselves. Who has few gets new ones in bursts.
        return {ENDED} | (self.fill(self._count - self._left) if self._left < FEW / 10 else set())

    def _path(self) -> None:
        from django.db import connection

        statement = f"SET search_path TO {self._schema}, public"
        self._cursor.execute(statement)
        with connection.cursor() as ours:
            ours.execute(statement)


def clocks() -> tuple[float, float, float]:
    """Return the seconds of the wall, of this process's processor time, and of its server process's."""
    from django.db import connection

    return time.perf_counter(), time.process_time(), cpu_seconds(connection.connection.info.backend_pid)


def new_dispatcher() -> Dispatcher:
    """Return a dispatcher that publishes nothing."""
    from workers.dispatcher.loop import Dispatcher

    dispatcher = Dispatcher()
    dispatcher._publisher = Silent()  # type: ignore[assignment]
    return dispatcher


def lead(dispatcher: Dispatcher, cursor: psycopg.Cursor[Any]) -> None:
    """Make a dispatcher lead, with all that it knows."""
    cursor.execute("UPDATE leader SET renewed_at = 'epoch'")
    assert dispatcher._leadership.acquire()


@contextmanager
def held_open(url: str) -> Iterator[None]:
    """Hold a transaction with a snapshot open, so that nothing that dies meanwhile can be cleaned."""
    with psycopg.connect(url) as connection:
        # Ours ends such sessions after half a minute; a dump, or another server, would not.
        connection.execute("SET SESSION idle_in_transaction_session_timeout = 0")
        connection.commit()
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        connection.execute("SELECT pg_current_xact_id()")
        yield
        # It must have lasted: the server would have ended it otherwise.
        connection.execute("SELECT 1")


def take_over(environment: dict[str, str], cursor: psycopg.Cursor[Any]) -> tuple[float, float]:
    """Kill a leader; return after how many seconds a standby leads, and has dispatched."""
    cursor.execute("UPDATE leader SET renewed_at = 'epoch'")
    with dispatcher_process(environment) as first:
        wait_until(lambda: leads(cursor, first.pid))
        wait_until(lambda: waiting_messages(cursor) > 0)
        with dispatcher_process(environment) as second:
            # It stands by when it has said that it has started.
            wait_until(lambda: connected(cursor) >= 2)
            first.send_signal(signal.SIGKILL)
            began = time.monotonic()
            first.wait()
            cursor.execute("DELETE FROM inflight")
            wait_until(lambda: leads(cursor, second.pid))
            led = time.monotonic() - began
            wait_until(lambda: waiting_messages(cursor) > 0)
            return led, time.monotonic() - began


@contextmanager
def dispatcher_process(environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a dispatcher as `up` does."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "dispatch"],
            cwd=ROOT,
            env={**environment, "SWITCHYARD_ROLE": "dispatcher"},
            stdout=log,
            stderr=log,
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def leads(cursor: psycopg.Cursor[Any], pid: int) -> bool:
    """Whether a process leads."""
    cursor.execute("SELECT holder FROM leader")
    return [row[0].rpartition(":")[2] for row in cursor.fetchall()] == [str(pid)]


def waiting_messages(cursor: psycopg.Cursor[Any]) -> int:
    """Return how many tasks are dispatched."""
    cursor.execute("SELECT count(*) FROM inflight")
    return int(cursor.fetchall()[0][0])


def connected(cursor: psycopg.Cursor[Any]) -> int:
    """Return how many dispatchers are connected beside this process."""
    cursor.execute(
        "SELECT count(*) - 1 FROM pg_stat_activity WHERE application_name = 'switchyard-dispatcher'"
    )
    return int(cursor.fetchall()[0][0])


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.01)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--full", action="store_true", help="a million tasks, held for a minute")
    parser.add_argument("--ready", type=int, help="tasks in a backlog")
    parser.add_argument("--turns", type=int, default=7, help="turns of each backlog that count")
    parser.add_argument("--decisions", type=int, help="in one turn")
    parser.add_argument("--held", type=float, help="seconds of the open transaction")
    options = parser.parse_args()
    options.ready = options.ready or (1_000_000 if options.full else 200_000)
    options.decisions = options.decisions or (40_000 if options.full else 10_000)
    options.held = options.held or (60.0 if options.full else 20.0)
    with platform() as (environment, _token):
        os.environ.update(environment, SWITCHYARD_ROLE="dispatcher")
        import django

        django.setup()
        from workers.heap import settle_heap

        settle_heap()  # as a dispatcher's process does
        with psycopg.connect(environment["DATABASE_URL"], autocommit=True) as connection:
            measure(connection.cursor(), environment, options)


def measure(
    cursor: psycopg.Cursor[Any], environment: dict[str, str], options: argparse.Namespace
) -> None:
    """Run all measurements on one server."""
    from workers.dispatcher.loop import BATCH

    cursor.execute(MAKE_TENANTS, [TENANTS])
    cursor.execute(MAKE_WORKER, {"id": WORKER, "slots": BATCH})
    everything = Backlog("all open", "everything", options.ready, cursor)
    blocked = Backlog("half blocked by limits", "blocked", options.ready, cursor)
    blocked.block_half()
    few = Backlog(f"{FEW:,} ready", "few", FEW, cursor)
    backlogs = [everything, blocked, few]
    for backlog in backlogs:
        backlog.turn(2 * TENANTS)
    for number in range(options.turns):
        random.Random(number).shuffle(backlogs)
        for backlog in backlogs:
            backlog.turn(options.decisions, backlog.measured)
        everything.first_look()
    held = Measured(f"a transaction held open {options.held:g} s")
    last, after = Measured("… its last turn"), Measured("all open, after it")
    with held_open(environment["DATABASE_URL"]):
        over = time.monotonic() + options.held
        while time.monotonic() < over:
            everything.turn(options.decisions // 4, held)
            # Paced, as workers would pace it.
            time.sleep(min(options.held / 10, max(0.0, over - time.monotonic())))
        everything.turn(options.decisions // 2, last)
    cursor.execute("VACUUM ready, inflight")
    everything.turn(options.decisions, after)
    print(
        "| backlog | decisions | decisions/s | against all open | CPU µs each, ours + server's ", end=""
    )
    print("| by CPU | round p50 ms | p99 ms |\n| --- | --- | --- | --- | --- | --- | --- | --- |")
    for result in (everything.measured, blocked.measured, few.measured, held, last, after):
        print(result.line(everything.measured), flush=True)
    print()
    looks = ", ".join(f"{each:.0f}" for each in sorted(everything.looks))
    print(f"A new leader's first look at {options.ready:,} tasks of {TENANTS:,} tenants: {looks} ms")
    cursor.execute("TRUNCATE public.ready; INSERT INTO public.ready SELECT * FROM everything.ready")
    led, dispatched = take_over(environment, cursor)
    print(
        f"A leader was killed: a standby led after {led:.2f} s, its first batch after {dispatched:.2f} s"
    )


if __name__ == "__main__":
    main()
