"""Write what the pool manager knows into the database, without ever holding the manager up.

A thread of its own does all that touches PostgreSQL: the manager must go on restarting workers
while the database is away or frozen. Nothing is queued: each round writes the newest pulses, so
after an outage the rows are right at once.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django.db import Error, connection

from ops.pools.scaling import Seen
from ops.pools.workers import Pulse
from tasks.aside import Aside
from tasks.selectors.pools import demands, running_of, scaled_bounds
from tasks.services.lose import lose_runs_of
from tasks.services.pools import PoolReport, machine_gone, machine_report
from tasks.services.shutdown import drop_waiting
from tasks.services.workers import (
    task_types_publish,
    worker_gone,
    worker_register,
    worker_seen,
    workers_to_drain,
)

logger = logging.getLogger(__name__)

EVERY = 2.0
HOUSEKEEPING_EVERY = 5.0


@dataclass(frozen=True)
class Machine:
    """This machine as its workers' rows describe it."""

    host: str
    isolation: str
    version: str


class Records(threading.Thread):
    """Keeps this machine's rows (workers, pools, task types) right, and asks what there is to do.

    ``types``: name to description, as the registry gives it. ``housekeeping`` is called every few
    seconds in the same thread, because it asks the database what may be removed.
    """

    def __init__(
        self,
        machine: Machine,
        types: Mapping[str, Mapping[str, Any]],
        housekeeping: Callable[[], None],
    ) -> None:
        super().__init__(name="records", daemon=True)
        self.machine = machine
        self.types = types
        self.housekeeping = housekeeping
        self._pulses: dict[uuid.UUID, Pulse] = {}
        self._known: dict[uuid.UUID, Pulse] = {}
        self._published = False
        self._draining = False
        self._clean = False
        self._to_drain: set[str] = set()
        self._seen: Seen | None = None
        self._pools: list[PoolReport] = []
        self._capacity = (0, False)
        self._gone: set[uuid.UUID] = set()
        self._buried: dict[uuid.UUID, int] = {}
        # Dead supervisors (worker, pid) whose runs are still to be given up, and whether they crashed.
        self._deaths: dict[tuple[uuid.UUID, int], bool] = {}
        self._not_lost = Aside[uuid.UUID | tuple[uuid.UUID, int]]("dead worker")
        self._served: set[str] = set()
        self._change = threading.Condition()
        self._finished = False

    def now(self, pulses: Iterable[Pulse], *, draining: bool = False, clean: bool = False) -> None:
        """Take the pulses of all workers that live now (from the manager's thread).

        ``clean`` says that no process lives any more of what those that died have left behind.
        """
        found = {pulse.worker_id: pulse for pulse in pulses}
        with self._change:
            changed = _changes(found) != _changes(self._pulses) or clean > self._clean
            self._pulses, self._draining, self._clean = found, draining, clean
            if changed:
                self._change.notify()

    def to_drain(self) -> set[str]:
        """Return the names of the workers that an operator wants to see drained."""
        with self._change:
            return set(self._to_drain)

    def seen(self) -> Seen | None:
        """Return what the database said last; None before it has said anything."""
        with self._change:
            return self._seen

    def pools(self, reports: Iterable[PoolReport], *, capacity: int, capacity_set: bool) -> None:
        """Take what this machine does for its queues (from the manager's thread)."""
        told = list(reports)
        with self._change:
            # Not the reasons: they change with every task that waits.
            changed = [(each.bounds, each.target) for each in told] != [
                (each.bounds, each.target) for each in self._pools
            ]
            self._pools, self._capacity = told, (capacity, capacity_set)
            if changed:
                self._change.notify()

    def finish(self, *, seconds: float) -> None:
        """Write the last state of a planned stop and end; gives up after so many seconds."""
        with self._change:
            self._finished = True
            self._change.notify()
        self.join(seconds)

    def run(self) -> None:
        """Write rounds until finished; an outage is told once and waited for."""
        tidied = 0.0
        away = False
        while True:
            finished = self._finished
            try:
                self.write()
                if finished:
                    machine_gone(self.machine.host, [report.queue for report in self._pools])
                    drop_waiting(self._served)
                elif time.monotonic() - tidied > HOUSEKEEPING_EVERY:
                    self.housekeeping()
                    tidied = time.monotonic()
                if away:
                    logger.info("the database is back")
                away = False
            except Error as error:
                connection.close()
                if not away:
                    logger.warning("the database is away, workers go on: %s", error)
                away = True
            except Exception:
                # Whatever it is: without reports every worker of this machine would count as silent.
                logger.exception("a round of records failed, the next one begins anew")
                connection.close()
            if finished:
                connection.close()
                return
            with self._change:
                if not self._finished:
                    self._change.wait(EVERY)

    def write(self) -> None:
        """Look what there is to do, then write: workers, pools, and the runs of those that have died."""
        self._look()
        if not self._published:
            task_types_publish(self.types)
            self._published = True
        with self._change:
            pulses, draining, clean = dict(self._pulses), self._draining, self._clean
        for worker_id in self._known.keys() - pulses.keys():
            worker_gone(worker_id, lost=not (draining or self._known[worker_id].draining))
            # Only now: nobody else would remember it if the database had been away.
            del self._known[worker_id]
            self._gone.add(worker_id)
        if clean:
            self._give_up_runs(pulses)
        asked = workers_to_drain(pulses)
        with self._change:
            self._to_drain = {pulses[worker_id].plan.name for worker_id in asked}
        for worker_id, pulse in pulses.items():
            if worker_id not in self._known:
                self._register(pulse)
            worker_seen(worker_id, busy=pulse.busy, draining=pulse.draining)
            self._known[worker_id] = pulse
        if not draining:
            self._tell()

    def _look(self) -> None:
        """Ask what there is to do; before all else, because a manager that starts waits for it."""
        seen = Seen(demands(), scaled_bounds(), running_of(self._known))
        with self._change:
            self._seen = seen

    def _tell(self) -> None:
        """Tell what this machine makes of it."""
        with self._change:
            reports, (capacity, capacity_set) = self._pools, self._capacity
        machine_report(
            self.machine.host,
            reports,
            capacity=capacity,
            capacity_set=capacity_set,
            types=self._versions(),
        )

    def _versions(self) -> dict[str, int]:
        return {name: described["version"] for name, described in self.types.items()}

    def _give_up_runs(self, pulses: Mapping[uuid.UUID, Pulse]) -> None:
        """End the runs of those that have died, instead of waiting for their leases to end.

        A loss that cannot be written is tried again later; nobody else's waits for it.
        """
        for worker_id in tuple(self._gone):
            if worker_id not in self._not_lost:
                with self._not_lost.trying(worker_id):
                    _told(lose_runs_of(worker_id), f"worker {worker_id}")
                    self._gone.discard(worker_id)
                    self._buried.pop(worker_id, None)
        for worker_id, pulse in pulses.items():
            for number, pid, code in pulse.dead_children:
                if number > self._buried.get(worker_id, 0):
                    # A supervisor that ends itself has given its run up, through no fault of its task.
                    self._deaths[(worker_id, pid)] = code < 0
                    self._buried[worker_id] = number
        for death, crashed in tuple(self._deaths.items()):
            if death not in self._not_lost:
                worker_id, pid = death
                with self._not_lost.trying(death):
                    lost = lose_runs_of(worker_id, supervisor=pid, crashed=crashed)
                    _told(lost, f"supervisor {pid}")
                    del self._deaths[death]

    def _register(self, pulse: Pulse) -> None:
        self._served.add(pulse.plan.queue)
        worker_register(
            worker_id=pulse.worker_id,
            name=f"{pulse.plan.name}@{self.machine.host}",
            queue=pulse.plan.queue,
            machine=self.machine.host,
            host=self.machine.host,
            pid=pulse.pid,
            slots=pulse.plan.slots,
            isolation=self.machine.isolation,
            version=self.machine.version,
            types=self._versions(),
            handlers={name: described["handler"] for name, described in self.types.items()},
        )


def _changes(pulses: Mapping[uuid.UUID, Pulse]) -> dict[uuid.UUID, tuple[int, bool]]:
    """Return what is written at once: which workers live, whether each drains, its children's deaths."""
    return {
        worker_id: (pulse.dead_children[-1][0] if pulse.dead_children else 0, pulse.draining)
        for worker_id, pulse in pulses.items()
    }


def _told(lost: int, whose: str) -> None:
    if lost:
        logger.warning("%s has died: %d runs of it are given up", whose, lost)
