"""Give this machine's pools the sizes that the rule says, by starting and draining worker processes.

The rule is in :mod:`ops.pools.breathing`, which processes in :mod:`ops.pools.steps`; here is what they
go by, and what is done. The demand is everybody's: of several machines that serve a queue each takes an
equal share of it, within its own bounds and capacity, so that no machine needs to know another.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ops.pools.breathing import Breathing, Load, capacity_of
from ops.pools.steps import Process, next_steps
from ops.pools.workers import WorkerPlan, pulse
from ops.supervision.programs import Watched
from ops.supervision.watch import Watch
from switchyard.bounds import Bounds
from tasks.selectors.pools import Demand
from tasks.services.pools import PoolReport

logger = logging.getLogger(__name__)

START_APART_SECONDS = 3.0
"""How long a start waits for the one before: on a small machine the first pool, which somebody waits
for, would otherwise share the processors with all others' imports."""

STARTING_SECONDS = 60.0
"""A process that is not up by then holds nothing up any longer."""

STALE_SECONDS = 10.0
"""What was seen longer ago (the database is away) is no reason to change anything."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What the database said: the demand, the pools that were scaled, and what each worker runs."""

    demands: Mapping[str, Demand] = field(default_factory=dict)
    scaled: Mapping[str, Bounds] = field(default_factory=dict)
    running: Mapping[uuid.UUID, int] = field(default_factory=dict)
    at: float = field(default_factory=time.monotonic)


@dataclass(frozen=True, slots=True)
class Sizes:
    """The settings of a machine: queue to the slots that it has at the least and the most.

    ``bounds`` hold until an operator scales a pool. ``capacity``: slots of the machine in all, None for
    as many as its ``cores`` bear. ``idle``: seconds after which a pool gives slots back.
    """

    bounds: Mapping[str, Bounds]
    capacity: int | None
    cores: int
    idle: float


class Scaling:
    """The sizes of one machine's pools. ``plans`` is the manager's own: name to plan, changed here.

    ``start`` starts a worker process.
    """

    def __init__(
        self,
        plans: dict[str, WorkerPlan],
        start: Callable[[WorkerPlan], Watched],
        sizes: Sizes,
    ) -> None:
        self._plans = plans
        self._start = start
        self._sizes = sizes
        self._breathing = Breathing(sizes.idle)
        self.reports: list[PoolReport] = []
        self.capacity = 0

    def turn(self, watch: Watch, seen: Seen | None, rolling: tuple[str, str] | None) -> bool:
        """Take the next steps; return whether something is on its way, so that one should look soon.

        ``seen`` None: nothing was seen yet. ``rolling``: a worker that is being replaced, and its
        successor, which are left alone.
        """
        seen = Seen() if seen is None else seen
        if time.monotonic() - seen.at > STALE_SECONDS:
            return False
        old, new = rolling or ("", "")
        bounds = {queue: seen.scaled.get(queue, own) for queue, own in self._sizes.bounds.items()}
        self.capacity = self._sizes.capacity or capacity_of(bounds, self._sizes.cores)
        processes, busy, leaving = self._look(watch, seen.running, old, new)
        targets = self._breathing.targets(
            bounds, _loads(bounds, seen.demands, busy), self.capacity, time.monotonic()
        )
        self.reports = [
            PoolReport(queue, bounds[queue], target.slots, target.why)
            for queue, target in targets.items()
        ]
        steps = next_steps(
            processes,
            {queue: target.slots for queue, target in targets.items()},
            bounds,
            capacity=self.capacity,
            leaving=leaving,
        )
        for name in steps.drain:
            target = targets[self._plans[name].queue]
            logger.info("%s drains: its pool is to have %d slots (%s)", name, target.slots, target.why)
            watch.let_go(name)
        starting = [
            each.name
            for each in processes
            if not each.up and time.monotonic() - watch.programs[each.name].started < START_APART_SECONDS
        ]
        at_once = max(1, self._sizes.cores // 2) - len(starting)
        for queue, slots in steps.start[: max(0, at_once)]:
            plan = WorkerPlan(queue, self._number(queue), slots)
            self._plans[plan.name] = plan
            target = targets[queue]
            logger.info(
                "%s starts: its pool is to have %d slots (%s)", plan.name, target.slots, target.why
            )
            self._start(plan)
        return bool(starting or steps.start)

    def _look(
        self, watch: Watch, running: Mapping[uuid.UUID, int], old: str, new: str
    ) -> tuple[list[Process], dict[str, int], int]:
        """Return the processes that count, what each queue's run, and the runs of those that drain."""
        processes: list[Process] = []
        busy: dict[str, int] = {}
        leaving = 0
        for name, plan in self._plans.items():
            watched = watch.programs.get(name)
            if watched is None:
                continue
            beat = pulse(plan, watched)
            if watched.stopping or name == old:
                # One that was stopped before it was up runs nothing.
                leaving += beat.busy if beat else 0
                continue
            up = beat is not None or time.monotonic() - watched.started > STARTING_SECONDS
            runs = max(beat.busy, running.get(beat.worker_id, 0)) if beat else 0
            processes.append(Process(name, plan.queue, plan.slots, runs, up, name == new))
            busy[plan.queue] = busy.get(plan.queue, 0) + (running.get(beat.worker_id, 0) if beat else 0)
        return processes, busy, leaving

    def _number(self, queue: str) -> int:
        """Return the lowest number that no process of the queue has, also none that still drains."""
        taken = {plan.number for plan in self._plans.values() if plan.queue == queue}
        return next(number for number in range(1, len(taken) + 2) if number not in taken)


def _loads(
    bounds: Mapping[str, Bounds], demands: Mapping[str, Demand], busy: Mapping[str, int]
) -> dict[str, Load]:
    """Return what each pool of this machine has to do: what it runs, and its share of the rest."""
    loads = {}
    for queue in bounds:
        demand = demands.get(queue)
        if demand is not None:
            machines = max(1, demand.machines)
            loads[queue] = Load(
                busy=busy.get(queue, 0) + -(-demand.dispatched // machines),
                waiting=-(-demand.waiting // machines),
                oldest=demand.oldest_wait,
            )
    return loads
