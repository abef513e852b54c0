"""Which worker processes of a machine to start and which to drain, so that its pools get their sizes.

Slots are fixed for the life of a process, so a pool changes size by whole processes: its minimum is
spread over as few as is wise, what it has above that is in processes of one step each
(:func:`ops.pools.breathing.step_of`), so that giving one back gives back no more than a step. Nothing
is ever killed: a process that drains finishes what it runs, and its runs count against the machine's
capacity until then.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ops.pools.breathing import step_of
from switchyard.bounds import Bounds

SLOTS_PER_WORKER = 8
"""More slots than this share one event loop badly."""


@dataclass(frozen=True, slots=True)
class Process:
    """A worker process that takes tasks, or will when it is ``up``. ``held``: not to be drained now."""

    name: str
    queue: str
    slots: int
    busy: int = 0
    up: bool = True
    held: bool = False


@dataclass(slots=True)
class Steps:
    """What to do next: start processes of (queue, slots) in this order, and drain by name."""

    start: list[tuple[str, int]] = field(default_factory=list)
    drain: list[str] = field(default_factory=list)


def next_steps(
    processes: Sequence[Process],
    targets: Mapping[str, int],
    bounds: Mapping[str, Bounds],
    *,
    capacity: int,
    leaving: int = 0,
) -> Steps:
    """Return the steps towards ``targets`` (queue to slots, the most important queue first).

    ``processes`` come oldest first. ``leaving`` is the number of runs of processes that drain. What
    is started never takes the machine beyond its capacity, nor does a drain take a pool below its
    target, unless its smallest process is too large to go and there is no room for a smaller one.
    While a process of a pool is starting, none of it is drained.
    """
    steps = Steps()
    room = capacity - leaving - sum(process.slots for process in processes)
    for queue, wanted in targets.items():
        own = [process for process in processes if process.queue == queue]
        have = sum(process.slots for process in own)
        while have < wanted:
            size = min(_size(have, wanted, bounds[queue]), room)
            if size < 1:
                break
            steps.start.append((queue, size))
            have, room = have + size, room - size
        if have > wanted and all(process.up for process in own):
            free = [process for process in own if not process.held]
            drained = least_busy(free, have - wanted)
            if drained:
                steps.drain += [process.name for process in drained]
            elif free:
                room -= _replace(steps, min(free, key=_burden), have - wanted, room)
    return steps


def _size(have: int, wanted: int, bounds: Bounds) -> int:
    """Return the slots of the next process of a pool that has fewer than it should."""
    below = min(bounds.least, wanted) - have
    if below <= 0:
        return min(step_of(bounds), wanted - have)
    processes = -(-below // SLOTS_PER_WORKER)
    return -(-below // processes)


def _replace(steps: Steps, large: Process, excess: int, room: int) -> int:
    """Let a process go that is larger than the excess; return the room that it takes.

    A smaller one takes its place first. Only where there is no room for that it is drained before.
    """
    rest = large.slots - excess
    if rest > room:
        steps.drain.append(large.name)
        return 0
    steps.start.append((large.queue, rest))
    return rest


def least_busy(processes: Iterable[Process], slots: int) -> list[Process]:
    """Return the processes to drain: at most so many slots, as many as possible, the idle ones first.

    Of equal choices it is the one with the younger processes.
    """
    # Slots drained to the choice with the fewest tasks that must end first.
    best: dict[int, tuple[int, list[Process]]] = {0: (0, [])}
    for process in processes:
        for total, (busy, chosen) in sorted(best.items(), reverse=True):
            larger = total + process.slots
            if larger > slots:
                continue
            found = (busy + process.busy, [*chosen, process])
            if larger not in best or found[0] <= best[larger][0]:
                best[larger] = found
    return best[max(best)][1]


def _burden(process: Process) -> tuple[int, int]:
    return process.busy, process.slots
