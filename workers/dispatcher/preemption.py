"""Which batch runs are asked to make room for critical work: plain rules, no Django.

One run is asked for each slot that is missing, and no more: free slots and runs that are ending
already come first. The lane that was served most gives first, and of its runs the newest, which has
the least to lose. Runs of workers that drain come last: they end soon anyway, and their slots are only
of use to the machine, which can start another worker in their place.
"""

from __future__ import annotations

import uuid
from collections import Counter
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


@dataclass(slots=True)
class Standing:
    """How a tenant's batch lane stands: its virtual time, and its guaranteed minimum of tasks."""

    served: float
    least: int = 0


def choose(
    wanted: int, free: int, slots: Iterable[HeldSlot], lanes: Mapping[int, Standing]
) -> list[HeldSlot]:
    """Return whom to ask so that ``wanted`` critical tasks get slots of batch, in that order.

    ``free`` are batch's idle slots; ``lanes`` are those of all tenants that hold slots. No lane goes
    below its minimum. One that gives up a run counts as served less by its cost when the next is
    chosen, so that of two lanes that were served alike neither gives everything.
    """
    slots = list(slots)
    missing = wanted - free - sum(slot.ending for slot in slots)
    served = {tenant_id: lane.served for tenant_id, lane in lanes.items()}
    spare = Counter(slot.tenant_id for slot in slots if not slot.ending)
    spare.subtract({tenant_id: lane.least for tenant_id, lane in lanes.items()})
    chosen: list[HeldSlot] = []
    for leaving in (False, True):
        able: dict[int, list[HeldSlot]] = {}
        for slot in slots:
            if slot.may_be_asked and not slot.ending and slot.leaving == leaving:
                able.setdefault(slot.tenant_id, []).append(slot)
        for newest_last in able.values():
            newest_last.sort(key=lambda slot: (-slot.seconds, slot.task_id.int))
        while len(chosen) < missing:
            giving = [tenant_id for tenant_id, left in able.items() if left and spare[tenant_id] > 0]
            if not giving:
                break
            # Of two that were served alike, the one with more runs; then any, but always the same.
            tenant_id = max(giving, key=lambda each: (served[each], len(able[each]), each))
            slot = able[tenant_id].pop()
            chosen.append(slot)
            served[tenant_id] -= slot.cost
            spare[tenant_id] -= 1
    return chosen
