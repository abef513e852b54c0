"""Decisions a second over a backlog of a million tasks of ten thousand tenants.

``python -m bench.dispatcher`` starts PostgreSQL and Valkey of its own, fills ``ready`` with rows whose
tenants are drawn by Zipf's law, and lets the dispatcher's own code decide: lanes in memory, one
committed transaction per batch that deletes from ``ready`` and inserts into ``inflight``. Nothing is
published and no worker is needed; what was dispatched is taken out of ``inflight`` between batches,
outside the measured time, as its ends would.

Measured in one run: the whole backlog open; half of it blocked by limits; a backlog of 10,000; the
rebuild by a new leader; and all open again while another transaction is held open.
"""

from __future__ import annotations

import argparse
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg

from bench.servers import percentile, platform

if TYPE_CHECKING:
    from workers.dispatcher.loop import Dispatcher

TENANTS = 10_000
TYPE = 1

FILL = """
TRUNCATE ready, inflight, parked, backlog, lane;
INSERT INTO ready (task_id, queue, tenant_id, rank, ordinal, epoch, type_id, preemptible)
SELECT gen_random_uuid(), 'normal', tenant, 0, n, 1, %(type)s, false
  FROM (SELECT n, least(%(tenants)s, floor(exp(random() * ln(%(tenants)s + 1.0)))::bigint) AS tenant
          FROM generate_series(1, %(count)s) n) drawn;
"""

# The largest tenants that together have half of the backlog may run nothing.
BLOCK = """
INSERT INTO tenants_limit (tenant_id, queue, running, weight, version)
SELECT tenant_id, '', 0, 1, 1
  FROM (SELECT tenant_id, sum(count(*)) OVER (ORDER BY count(*) DESC, tenant_id) AS upto
          FROM ready GROUP BY tenant_id) counted
 WHERE upto <= (SELECT count(*) / 2 FROM ready)
"""

MAKE_TENANTS = """
INSERT INTO tenants_tenant (id, uid, slug, name, paused, network_permitted, is_first, version)
SELECT n, gen_random_uuid(), 'team-' || n, 'Team', false, false, false, 1
  FROM generate_series(1, %s) n ON CONFLICT DO NOTHING
"""


class Silent:
    """Stands for the publisher: what is measured ends with the commit."""

    broker_down = False

    def publish(self, _bells: object) -> None:
        """Publish nothing."""


@dataclass(frozen=True, slots=True)
class Result:
    """One measurement: decisions a second of measured time, and milliseconds per batch."""

    name: str
    decisions: int
    seconds: float
    batches: list[float]

    @property
    def rate(self) -> float:
        """Decisions a second."""
        return self.decisions / self.seconds if self.seconds else 0.0

    def line(self, base: float) -> str:
        """Return a line of the table."""
        p50, p99 = percentile(self.batches, 0.5), percentile(self.batches, 0.99)
        return (
            f"| {self.name} | {self.decisions:,} | {self.rate:,.0f} | {p50:.1f} | {p99:.1f} "
            f"| {self.rate / base:.2f} |"
        )


def fill(cursor: psycopg.Cursor[Any], count: int) -> None:
    """Make a backlog of ``count`` tasks and no limits."""
    cursor.execute("DELETE FROM tenants_limit")
    for statement in FILL.strip().split(";\n"):
        cursor.execute(statement, {"count": count, "tenants": TENANTS, "type": TYPE})
    cursor.execute("VACUUM ANALYZE ready")


def lead(cursor: psycopg.Cursor[Any]) -> tuple[Dispatcher, float]:
    """Return a new leader that has looked at everything, and how many seconds it took for that."""
    from workers.dispatcher.loop import Dispatcher

    cursor.execute("UPDATE leader SET renewed_at = 'epoch'")
    dispatcher = Dispatcher()
    dispatcher._publisher = Silent()  # type: ignore[assignment]
    began = time.perf_counter()
    assert dispatcher._take_lead()
    dispatcher._look({"*"})
    return dispatcher, time.perf_counter() - began


def decide(name: str, dispatcher: Dispatcher, cursor: psycopg.Cursor[Any], seconds: float) -> Result:
    """Let a leader decide for so long, or until nothing that may run is left."""
    from tasks.selectors.ability import Capacity
    from workers.dispatcher.loop import BATCH

    capacity = Capacity(BATCH, {TYPE: 1})
    lanes = dispatcher._queues["normal"]
    spent, decisions, batches = 0.0, 0, []
    while spent < seconds:
        began = time.perf_counter()
        # As in each round of its own: look at limits, at what runs, and from time to time everywhere.
        dispatcher._look(set())
        moved = dispatcher._send_batch("normal", lanes, BATCH, capacity)
        took = time.perf_counter() - began
        spent += took
        batches.append(took * 1000)
        decisions += moved
        if not moved:
            break
        cursor.execute("DELETE FROM inflight")
    return Result(name, decisions, spent, batches)


@contextmanager
def held_open(url: str, seconds: float) -> Iterator[None]:
    """Hold a transaction with a snapshot open, so that nothing that dies meanwhile can be cleaned."""
    over = threading.Event()

    def hold() -> None:
        with psycopg.connect(url) as connection:
            # Ours ends such sessions after half a minute; a dump, or another server, would not.
            connection.execute("SET SESSION idle_in_transaction_session_timeout = 0")
            connection.commit()
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            connection.execute("SELECT pg_current_xact_id()")
            over.wait(seconds)

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        yield
    finally:
        over.set()
        holder.join()


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--ready", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=10.0, help="of deciding, per measurement")
    parser.add_argument("--held", type=float, default=60.0, help="seconds of the open transaction")
    options = parser.parse_args()
    with platform() as (environment, _token):
        os.environ.update(environment, SWITCHYARD_ROLE="dispatcher")
        import django

        django.setup()
        with psycopg.connect(environment["DATABASE_URL"], autocommit=True) as connection:
            measure(connection.cursor(), environment["DATABASE_URL"], options)


def measure(cursor: psycopg.Cursor[Any], url: str, options: argparse.Namespace) -> None:
    """Run all measurements on one database."""
    cursor.execute(MAKE_TENANTS, [TENANTS])
    fill(cursor, options.ready)
    dispatcher, first = lead(cursor)
    rebuilds = [first, *(lead(cursor)[1] for _ in range(2))]
    dispatcher, _ = lead(cursor)
    results = [decide("all open", dispatcher, cursor, options.seconds)]
    fill(cursor, options.ready)
    cursor.execute(BLOCK)
    dispatcher, _ = lead(cursor)
    results.append(decide("half blocked by limits", dispatcher, cursor, options.seconds))
    fill(cursor, 10_000)
    dispatcher, _ = lead(cursor)
    results.append(decide("10,000 ready", dispatcher, cursor, options.seconds))
    fill(cursor, options.ready)
    dispatcher, _ = lead(cursor)
    with held_open(url, options.held):
        # Paced as the end of runs would pace it, for as long as the transaction is held.
        deadline = time.monotonic() + options.held
        parts = []
        while time.monotonic() < deadline:
            parts.append(decide("held", dispatcher, cursor, 0.5))
            time.sleep(min(4.0, max(0.0, deadline - time.monotonic())))
    held = Result(
        f"a transaction held open {options.held:g} s",
        sum(part.decisions for part in parts),
        sum(part.seconds for part in parts),
        [each for part in parts for each in part.batches],
    )
    last = Result("… its last half second", parts[-1].decisions, parts[-1].seconds, parts[-1].batches)
    print("| backlog | decisions | decisions/s | batch p50 ms | p99 ms | against all open |")
    print("| --- | --- | --- | --- | --- | --- |")
    for result in (*results, held, last):
        print(result.line(results[0].rate))
    times = ", ".join(f"{seconds * 1000:.0f}" for seconds in rebuilds)
    print(f"\nA new leader's first look at {options.ready:,} tasks of {TENANTS:,} tenants: {times} ms")


if __name__ == "__main__":
    main()
