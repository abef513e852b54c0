"""How many slots each pool of one machine should have now: a rule about numbers alone.

1. What a pool needs: ``critical`` one slot per task that runs or waits, and its minimum idle beside
   them, so that it grows before the idle ones are used up. ``normal`` and ``batch`` one slot per task
   that runs or waits, where ``normal`` counts waiting ones only when the oldest has waited a moment:
   the depth says how far to grow, the wait says whether to.
2. A pool shrinks only to the most that it has needed within the idle time: needs that go up and down
   faster than that leave its size alone (the idea is the stabilisation window of Kubernetes'
   horizontal autoscaler).
3. Sizes go in steps of an eighth of the range, since whole worker processes are what starts and
   drains (:mod:`ops.pools.steps`).
4. The machine's capacity is given out in the order ``critical``, ``normal``, ``batch``: to each its
   minimum, then to each what it needs. So ``batch`` gets what is left, and loses it when others need
   it; by draining, which lets its tasks end first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from switchyard.bounds import Bounds
from switchyard.handler import QUEUES

GROW_AFTER_SECONDS = 1.0
"""``normal`` does not grow for tasks that have waited less: most are started within that time."""

STEPS = 8
"""In so many steps a pool goes from its minimum to its maximum, or in single slots."""

LARGEST_STEP = 8
SLOTS_PER_CORE = 4
"""What a machine is taken to bear when nobody has set its capacity."""


@dataclass(frozen=True, slots=True)
class Load:
    """What one pool of this machine has to do. ``waiting``: its share of the tasks that could start.

    ``busy``: tasks that run or were dispatched to it, but for those of workers that drain.
    ``oldest``: how long the oldest of the waiting has waited, in seconds.
    """

    busy: int = 0
    waiting: int = 0
    oldest: float = 0.0


@dataclass(frozen=True, slots=True)
class Target:
    """How many slots a pool should have, and a sentence's part that says why."""

    slots: int
    why: str


def need(queue: str, bounds: Bounds, load: Load) -> int:
    """Return the slots that a pool needs now, within its bounds and in whole steps."""
    tasks = load.busy + load.waiting
    if queue == "critical":
        tasks += bounds.least
    elif queue == "normal" and load.oldest < GROW_AFTER_SECONDS:
        tasks = load.busy
    above = max(0, tasks - bounds.least)
    step = step_of(bounds)
    return bounds.clamp(bounds.least + -(-above // step) * step)


def step_of(bounds: Bounds) -> int:
    """Return by how many slots at once a pool grows and shrinks."""
    return max(1, min(LARGEST_STEP, -(-(bounds.most - bounds.least) // STEPS)))


def share(needs: Mapping[str, int], bounds: Mapping[str, Bounds], capacity: int) -> dict[str, int]:
    """Give the capacity out: minima first, then needs, each in the order of importance.

    A need lies within its pool's bounds. Together never more than ``capacity``.
    """
    order = [queue for queue in QUEUES if queue in needs]
    given = dict.fromkeys(order, 0)
    for wanted in ({queue: bounds[queue].least for queue in order}, needs):
        for queue in order:
            more = max(0, min(wanted[queue] - given[queue], capacity))
            given[queue] += more
            capacity -= more
    return given


def capacity_of(bounds: Mapping[str, Bounds], cores: int) -> int:
    """Return the slots of a machine that has no capacity set.

    Four per core, but never fewer than the minima together nor more than the maxima together.
    """
    least = sum(each.least for each in bounds.values())
    most = sum(each.most for each in bounds.values())
    return max(least, min(most, SLOTS_PER_CORE * cores))


class Breathing:
    """The rule with its memory. ``idle``: seconds that a pool keeps slots which it does not need."""

    def __init__(self, idle: float) -> None:
        self._idle = idle
        self._needs: dict[str, deque[tuple[float, int]]] = {}
        self._began: float | None = None

    def targets(
        self,
        bounds: Mapping[str, Bounds],
        loads: Mapping[str, Load],
        capacity: int,
        now: float,
    ) -> dict[str, Target]:
        """Return the target of each pool that has bounds; ``now`` is a monotonic time in seconds.

        A pool without a load has nothing to do.
        """
        if self._began is None:
            self._began = now
        quiet = f"idle for {self._idle:g} s" if now - self._began >= self._idle else "nothing waits"
        now_needed = {
            queue: need(queue, each, loads.get(queue, Load())) for queue, each in bounds.items()
        }
        needed = {
            queue: bounds[queue].clamp(self._most(queue, slots, now))
            for queue, slots in now_needed.items()
        }
        given = share(needed, bounds, capacity)
        return {
            queue: Target(
                slots,
                self._why(
                    bounds[queue],
                    loads.get(queue, Load()),
                    capacity=capacity,
                    needed=(now_needed[queue], needed[queue]),
                    slots=slots,
                    quiet=quiet,
                ),
            )
            for queue, slots in given.items()
        }

    def _most(self, queue: str, slots: int, now: float) -> int:
        """Note what a pool needs now, and return the most that it needed within the idle time.

        Kept is what later needs have not overtaken, so the first one kept is the most.
        """
        kept = self._needs.setdefault(queue, deque())
        while kept and kept[-1][1] <= slots:
            kept.pop()
        kept.append((now, slots))
        while now - kept[0][0] >= self._idle:
            kept.popleft()
        return kept[0][1]

    def _why(
        self,
        bounds: Bounds,
        load: Load,
        *,
        capacity: int,
        needed: tuple[int, int],
        slots: int,
        quiet: str,
    ) -> str:
        now_needed, remembered = needed
        if bounds.most == 0:
            return "scaled to 0"
        if slots < remembered:
            return f"the machine's capacity of {capacity} slots is used"
        if bounds.least == bounds.most:
            return "fixed"
        if load.waiting and slots == bounds.most:
            return f"{_tasks(load.waiting)}, and {bounds.most} is the maximum"
        if load.waiting:
            return _tasks(load.waiting)
        if now_needed < remembered:
            return f"needed within the last {self._idle:g} s"
        return f"{load.busy} busy" if load.busy else quiet


def _tasks(waiting: int) -> str:
    return "1 task waits" if waiting == 1 else f"{waiting} tasks wait"
