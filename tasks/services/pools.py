"""Scaling pools, and what the pool managers say they make of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from django.db import connection, transaction
from django.db.models.functions import Now

from audit.services import record
from switchyard.bounds import Bounds
from tasks.errors import CapacityExceeded, PoolMinimum
from tasks.models import PoolBounds, PoolMachine
from tasks.selectors.pools import bounds_in_effect, bounds_version, live_machines
from tenants.actor import Actor

FORGOTTEN_AFTER = timedelta(hours=1)
"""A machine that ended without a word is not shown after seconds; its rows go after this."""


@dataclass(frozen=True, slots=True)
class PoolReport:
    """What one machine does for one queue; see :class:`tasks.models.PoolMachine`."""

    queue: str
    bounds: Bounds
    target: int
    why: str


def pools_scale(
    *,
    actor: Actor,
    bounds: Mapping[str, Bounds],
    check: Callable[[int], None] = lambda version: None,
) -> None:
    """Set the bounds of the pools named, for every machine; all of them or none. Audited.

    ``check`` sees the version of all bounds under the lock. Machines follow within seconds: what
    runs in slots that are too many ends first.

    Raises:
        PoolMinimum: a pool would be switched off whose minimum is above 0.
        CapacityExceeded: a machine's capacity is less than the minima together.
    """
    with transaction.atomic():
        with connection.cursor() as cursor:
            # There may be no row to lock yet.
            cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended('pool_bounds', 0))")
        check(bounds_version())
        machines = live_machines()
        before = bounds_in_effect(machines)
        for queue, wanted in bounds.items():
            known = before.get(queue)
            if wanted.most == 0 and known is not None and known.least > 0:
                raise PoolMinimum(queue, known.least, known.most)
        _refuse_beyond_capacity(machines, bounds)
        changed = {queue: wanted for queue, wanted in bounds.items() if before.get(queue) != wanted}
        for queue, wanted in changed.items():
            row = PoolBounds.objects.filter(pk=queue).first() or PoolBounds(queue=queue)
            row.least, row.most, row.by = wanted.least, wanted.most, actor.name
            row.version += 1
            row.changed_at = Now()
            row.save()
        if changed:
            record(
                actor=actor.name,
                action="pools.scale",
                object="platform:pools",
                reason=actor.reason,
                data={queue: str(wanted) for queue, wanted in changed.items()},
            )


def _refuse_beyond_capacity(machines: Iterable[PoolMachine], bounds: Mapping[str, Bounds]) -> None:
    """Look at the machines whose capacity is set; that of others grows with the minima."""
    least: dict[str, int] = {}
    capacity: dict[str, int] = {}
    for row in machines:
        if row.capacity_set:
            wanted = bounds.get(row.queue)
            least[row.machine] = least.get(row.machine, 0) + (wanted.least if wanted else row.least)
            capacity[row.machine] = row.capacity
    for machine, together in least.items():
        if together > capacity[machine]:
            raise CapacityExceeded(machine, capacity[machine], together)


def machine_report(
    machine: str,
    reports: Iterable[PoolReport],
    *,
    capacity: int,
    capacity_set: bool,
    types: Mapping[str, int],
) -> None:
    """Note what a machine does for its queues; it is told again every few seconds."""
    for report in reports:
        PoolMachine.objects.update_or_create(
            machine=machine,
            queue=report.queue,
            defaults={
                "least": report.bounds.least,
                "most": report.bounds.most,
                "target": report.target,
                "why": report.why,
                "capacity": capacity,
                "capacity_set": capacity_set,
                "types": dict(types),
                "seen_at": Now(),
            },
        )
    PoolMachine.objects.filter(seen_at__lt=Now() - FORGOTTEN_AFTER).delete()


def machine_gone(machine: str, queues: Iterable[str]) -> None:
    """Note that a machine serves these queues no more."""
    PoolMachine.objects.filter(machine=machine, queue__in=tuple(queues)).delete()
