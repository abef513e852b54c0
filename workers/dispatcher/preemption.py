"""Which batch runs are asked to make room for critical work: plain rules, no Django.

One run is asked for each slot that is missing, and no more: free slots and runs that are ending
already come first. The lane that was served most gives first, and of its runs the newest, which has
the least to lose. Runs of workers that drain come last: they end soon anyway, and their slots are only
of use to the machine, which can start another worker in their place.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HeldSlot:
    """A slot of the batch pool and the run that holds it, as far as that counts here.

    ``seconds``: for how long the run has been going on. ``cost``: by how much its lane's virtual time
    counts as lower without it. ``ending``: it was asked to stop, so its slot is about to be free.
    ``leaving``: its worker drains. ``may_be_asked``: it is preemptible, and loses nothing but work.
    """

    task_id: uuid.UUID
    epoch: int
    tenant_id: int
    seconds: float
    cost: float = 0.0
    ending: bool = False
    leaving: bool = False
    may_be_asked: bool = True


def choose(
    wanted: int, free: int, slots: Iterable[HeldSlot], served: Mapping[int, float]
) -> list[HeldSlot]:
    """Return whom to ask so that ``wanted`` critical tasks get slots of batch, in that order.

    ``free`` are batch's idle slots; ``served`` is each tenant's virtual time in the batch queue. A lane
    that gives up a run counts as served less by its cost when the next is chosen, so that of two lanes
    that were served alike neither gives everything.
    """
    slots = list(slots)
    missing = wanted - free - sum(slot.ending for slot in slots)
    level = dict(served)
    chosen: list[HeldSlot] = []
    for leaving in (False, True):
        lanes: dict[int, list[HeldSlot]] = {}
        for slot in slots:
            if slot.may_be_asked and not slot.ending and slot.leaving == leaving:
                lanes.setdefault(slot.tenant_id, []).append(slot)
        for newest_last in lanes.values():
            newest_last.sort(key=lambda slot: (-slot.seconds, slot.task_id.int))
        while lanes and len(chosen) < missing:
            # Of two that were served alike, the one with more runs; then any, but always the same.
            tenant_id = max(lanes, key=lambda each: (level.get(each, 0.0), len(lanes[each]), each))
            slot = lanes[tenant_id].pop()
            chosen.append(slot)
            level[tenant_id] = level.get(tenant_id, 0.0) - slot.cost
            if not lanes[tenant_id]:
                del lanes[tenant_id]
    return chosen
