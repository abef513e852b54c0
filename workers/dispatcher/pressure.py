"""Critical work that waits while nothing is free, and what is done for it.

A critical task that has waited for ``SWITCHYARD_PREEMPT_AFTER`` seconds while every slot of its own pool
was busy is lent a slot of the batch pool. If none is free there, a batch run is asked to make room
(:mod:`workers.dispatcher.preemption` says which). The leader alone lends, slot by slot, and the row in
``inflight`` says so: workers take from no other queue by themselves, and a lent task is still
counted in its own lane. As soon as critical's own pool has room, batch has all its slots again.

A machine whose pools breathe makes room in its own way, by draining batch workers, and starts critical
ones in seconds: lending is what bridges them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

import structlog
from django.conf import settings
from django.db import connection

from tasks.selectors.ability import Capacity
from tasks.selectors.preemption import batch_runs
from tasks.services.preempt import preempt
from workers.dispatcher.allowances import Tenants
from workers.dispatcher.lanes import Candidate, Lanes
from workers.dispatcher.lending import BORROWER, LENDER
from workers.dispatcher.preemption import HeldSlot, Standing, choose

LOOK_SECONDS = 0.2
"""At most this often the waiting is looked at while there is no slot to lend."""

TOGETHER = 32
"""So many lanes, and tasks of each, are looked at together at most; the others have their turn later."""

START_SECONDS = 5.0
"""In this time a machine starts a worker in the room that a run of a draining one has left."""

WAITING = """
SELECT first.task_id, first.rank, first.ordinal, first.type_id, first.type_version
  FROM unnest(%(tenants)s::bigint[], %(rooms)s::int[]) AS wanted(tenant_id, room)
 CROSS JOIN LATERAL (
   SELECT task_id, rank, ordinal, type_id, type_version FROM ready r
    WHERE r.queue = %(queue)s AND r.tenant_id = wanted.tenant_id
    ORDER BY r.rank, r.ordinal LIMIT wanted.room) first
  JOIN task t ON t.id = first.task_id
 WHERE t.queued_at <= clock_timestamp() - make_interval(secs => %(after)s)
 LIMIT %(most)s
"""

log = structlog.get_logger(__name__)


class Pressure:
    """Whether critical work needs slots of batch now, and what was asked for its sake."""

    def __init__(self, queues: Mapping[str, Lanes], tenants: Tenants) -> None:
        self._critical, self._batch = queues[BORROWER], queues[LENDER]
        self._tenants = tenants
        self._since = math.inf
        self._looked_at = -math.inf
        self._waited = 0
        self._leaving_asked_at = -math.inf
        self._ending = 0
        self._short = False

    @property
    def patience(self) -> float:
        """In how many seconds what waits now has waited for too long; infinite if nothing does."""
        left = self._since + settings.SWITCHYARD.preempt_after - time.monotonic()
        return left if left > 0 else math.inf

    @property
    def told(self) -> str:
        """The sentence for the next critical task while what waits needs slots of batch; or ""."""
        if self._ending:
            what = "a batch run is" if self._ending == 1 else f"{self._ending} batch runs are"
            return f"Every slot for critical work is busy; {what} being stopped to make room."
        if self._short:
            return "Every slot for critical work is busy, and no batch run may be stopped for it."
        return ""

    def wanted(
        self,
        own: Capacity,
        lender: Capacity,
        *,
        full: bool,
        idle: bool,
        can_start: Callable[[Candidate], bool],
    ) -> int:
        """Return how many critical tasks should have a slot of batch now.

        ``own`` and ``lender`` are the capacities of the two pools, ``full`` and ``idle`` say whether
        critical's has no slot free and batch's has one. ``can_start`` says whether a task could start at
        all.
        """
        now = time.monotonic()
        after = settings.SWITCHYARD.preempt_after
        pressed = after and full and own.slots and _could_lend(lender, own)
        if not (pressed and self._critical.has_startable()):
            self._since, self._waited = math.inf, 0
            self._calm()
            return 0
        self._since = min(self._since, now)
        at_once = idle and self._waited
        if now < self._since + after or not (at_once or now >= self._looked_at + LOOK_SECONDS):
            return 0
        self._looked_at = now
        self._waited = sum(map(can_start, _waiting(self._critical.startable(TOGETHER), after)))
        if not self._waited:
            self._calm()
        return self._waited

    def relieve(self, wanted: int, free: int) -> None:
        """Ask as many batch runs to stop as ``wanted`` tasks need slots beyond ``free`` ones."""
        self._calm()
        if wanted <= 0:
            return
        slots, lanes = self._held()
        asked = 0
        for slot in choose(wanted, free, slots, lanes):
            if preempt(slot.task_id, epoch=slot.epoch):
                asked += 1
                if slot.leaving:
                    self._leaving_asked_at = time.monotonic()
                log.info("run_preempted", task=str(slot.task_id), ran_seconds=round(slot.seconds, 1))
        self._ending = asked + sum(slot.ending for slot in slots)
        self._short = wanted > free + self._ending

    def _calm(self) -> None:
        self._ending, self._short = 0, False

    def _held(self) -> tuple[list[HeldSlot], dict[int, Standing]]:
        """Return the slots that batch runs hold, and how each of their lanes stands."""
        room_is_coming = time.monotonic() < self._leaving_asked_at + START_SECONDS
        slots = []
        lanes: dict[int, Standing] = {}
        for run in batch_runs():
            virtual_time, limits = self._batch.standing(run.tenant_id)
            lane = lanes.setdefault(run.tenant_id, Standing(virtual_time, limits.min_running))
            expected = self._tenants.seconds(run.type_id)
            # A lane pays for what its runs take beyond the estimate only when they end.
            lane.served += max(0.0, run.seconds - expected) / limits.weight
            slots.append(
                HeldSlot(
                    run.task_id,
                    run.epoch,
                    run.tenant_id,
                    run.seconds,
                    cost=max(expected, run.seconds) / limits.weight,
                    ending=run.ending,
                    leaving=run.leaving,
                    may_be_asked=run.may_be_asked and not (run.leaving and room_is_coming),
                )
            )
        return slots, lanes


def _waiting(lanes: list[tuple[int, int]], after: float) -> list[Candidate]:
    """Return the first tasks of critical lanes, each with its room, that have waited for so long."""
    with connection.cursor() as cursor:
        cursor.execute(
            WAITING,
            {
                "queue": BORROWER,
                "tenants": [tenant_id for tenant_id, _ in lanes],
                "rooms": [room for _, room in lanes],
                "after": after,
                "most": TOGETHER,
            },
        )
        return [Candidate(*row) for row in cursor.fetchall()]


def _could_lend(lender: Capacity, own: Capacity) -> bool:
    """Whether the lender's workers can run all that the borrower's own can.

    Where all of them drain nothing can be lent, but their runs may still make room for the machine.
    """
    return not lender.types or all(lender.can_run(*each) for each in own.types.items())
