"""The pools: what they have to do, how large they are, and how large they may be."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from django.db import connection
from django.db.models import Count, Sum
from django.db.models.functions import Now

from switchyard.bounds import Bounds
from tasks.models import Inflight, PoolBounds, PoolMachine
from tasks.selectors.ability import WORKER_SILENT_SECONDS
from tasks.states import Queue

# The view is the one that docs/scaling.md gives to outside autoscalers (migration 0010).
POOLS = """
SELECT d.queue, count(w.id) FILTER (WHERE w.status = 'alive'),
       count(w.id) FILTER (WHERE w.status = 'draining'),
       coalesce(sum(w.slots) FILTER (WHERE w.status = 'alive'), 0), coalesce(sum(w.busy), 0),
       coalesce(array_agg(DISTINCT w.host) FILTER (WHERE w.host IS NOT NULL), '{}'),
       d.waiting, d.oldest_wait, d.dispatched, d.running
  FROM pool_demand d
  LEFT JOIN worker w ON w.queue = d.queue AND w.status IN ('alive', 'draining')
 GROUP BY d.queue, d.waiting, d.oldest_wait, d.dispatched, d.running
"""


class Demand(NamedTuple):
    """What one queue has to do, as the view ``pool_demand`` says it. ``oldest_wait`` in seconds.

    ``waiting``: tasks that could start now, counted up to 10,000; not those that a limit or a pause
    holds. ``machines``: how many live pool managers serve the queue.
    """

    queue: str
    waiting: int
    oldest_wait: float
    dispatched: int
    running: int
    slots: int
    machines: int


class PoolState(NamedTuple):
    """The living workers of one pool; ``slots`` are those of workers that still take tasks."""

    name: str
    alive: int
    draining: int
    slots: int
    busy: int
    hosts: list[str]
    waiting: int
    oldest_wait: float
    dispatched: int
    running: int
    bounds: Bounds | None
    machines: tuple[PoolMachine, ...]

    @property
    def target(self) -> int:
        """The slots that it should have, on all machines together."""
        return sum(machine.target for machine in self.machines)

    @property
    def why(self) -> str:
        """Why it has this target; several machines each for itself."""
        reasons = {machine.why for machine in self.machines}
        if len(reasons) < 2:
            return next(iter(reasons), "no machine serves it")
        return "; ".join(f"{machine.machine}: {machine.why}" for machine in self.machines)


def demands() -> dict[str, Demand]:
    """Return what each queue has to do. One query."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT queue, waiting, oldest_wait, dispatched, running, slots, machines FROM pool_demand"
        )
        return {row[0]: Demand(*row) for row in cursor.fetchall()}


def running_of(worker_ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, int]:
    """Return how many tasks each of some workers runs; one that runs none may be left out."""
    found = Inflight.objects.filter(state="running", worker__in=tuple(worker_ids))
    return dict(found.values_list("worker").annotate(Count("task_id")))


def live_machines() -> list[PoolMachine]:
    """Return what the live pool managers do, by machine and queue."""
    fresh = Now() - timedelta(seconds=WORKER_SILENT_SECONDS)
    return list(PoolMachine.objects.filter(seen_at__gt=fresh).order_by("machine", "queue"))


def scaled_bounds() -> dict[str, Bounds]:
    """Return the bounds of the pools that an operator has scaled."""
    rows = PoolBounds.objects.values_list("queue", "least", "most")
    return {queue: Bounds(least, most) for queue, least, most in rows}


def bounds_in_effect(machines: Iterable[PoolMachine]) -> dict[str, Bounds]:
    """Return the bounds of each pool on a machine: an operator's, else the machines' settings.

    Where the settings differ, from the lowest minimum to the highest maximum.
    """
    found: dict[str, Bounds] = {}
    for row in machines:
        before = found.get(row.queue, Bounds(row.least, row.most))
        found[row.queue] = Bounds(min(before.least, row.least), max(before.most, row.most))
    return found | scaled_bounds()


def bounds_version() -> int:
    """Return a number that grows with each scaling of a pool."""
    return PoolBounds.objects.aggregate(sum=Sum("version"))["sum"] or 0


def pool_states() -> list[PoolState]:
    """Return the three pools. Three queries."""
    with connection.cursor() as cursor:
        cursor.execute(POOLS)
        rows = {row[0]: row for row in cursor.fetchall()}
    machines = live_machines()
    bounds = bounds_in_effect(machines)
    return [
        PoolState._make((*rows[queue], bounds.get(queue), _serving(queue, machines)))
        for queue in (each.value for each in Queue)
    ]


def _serving(queue: str, machines: Sequence[PoolMachine]) -> tuple[PoolMachine, ...]:
    return tuple(machine for machine in machines if machine.queue == queue)


def pool_json(state: PoolState) -> dict[str, Any]:
    """Return a pool for operators.

    ``min`` and ``max`` hold for each machine; ``target``, ``slots`` and ``busy`` are of all together.
    """
    return {
        "name": state.name,
        "min": state.bounds.least if state.bounds else None,
        "max": state.bounds.most if state.bounds else None,
        "target": state.target,
        "slots": state.slots,
        "busy": state.busy,
        "waiting": state.waiting,
        "oldest_wait": state.oldest_wait if state.waiting else None,
        "why": state.why,
        "workers": {"alive": state.alive, "draining": state.draining},
        "hosts": sorted(state.hosts),
        "machines": [
            {
                "machine": row.machine,
                "min": row.least,
                "max": row.most,
                "target": row.target,
                "capacity": row.capacity,
                "why": row.why,
            }
            for row in state.machines
        ],
    }
