"""Which batch runs make room for critical work: the rules alone, without database or clock."""

from __future__ import annotations

import uuid
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from workers.dispatcher.preemption import HeldSlot, Standing, choose

held_slots = st.lists(
    st.builds(
        HeldSlot,
        task_id=st.uuids(),
        epoch=st.integers(1, 9),
        tenant_id=st.integers(1, 4),
        seconds=st.floats(0, 1000),
        cost=st.floats(0, 100),
        ending=st.booleans(),
        leaving=st.booleans(),
        may_be_asked=st.booleans(),
    ),
    max_size=12,
    unique_by=lambda slot: slot.task_id,
)
standings = st.fixed_dictionaries(
    dict.fromkeys(
        range(1, 5), st.builds(Standing, served=st.floats(0, 1000), least=st.sampled_from([0, 0, 1, 3]))
    )
)
numbers = st.integers(0, 15)


def can_give(slots: list[HeldSlot], lanes: dict[int, Standing]) -> dict[int, int]:
    """How many runs each lane can give up at most."""
    found = {}
    for tenant_id, lane in lanes.items():
        own = [slot for slot in slots if slot.tenant_id == tenant_id and not slot.ending]
        able = sum(slot.may_be_asked for slot in own)
        found[tenant_id] = max(0, min(able, len(own) - lane.least))
    return found


def run(tenant_id: int, seconds: float, **options: object) -> HeldSlot:
    return HeldSlot(uuid.uuid4(), 1, tenant_id, seconds, **options)  # type: ignore[arg-type]


@given(numbers, numbers, held_slots, standings)
def test_no_more_are_asked_than_slots_are_missing(
    wanted: int, free: int, slots: list[HeldSlot], lanes: dict[int, Standing]
) -> None:
    asked = choose(wanted, free, slots, lanes)
    coming = free + sum(slot.ending for slot in slots)
    assert len(asked) == min(sum(can_give(slots, lanes).values()), max(0, wanted - coming))
    assert len(set(asked)) == len(asked)


@given(numbers, numbers, held_slots, standings)
def test_no_lane_goes_below_its_guaranteed_minimum(
    wanted: int, free: int, slots: list[HeldSlot], lanes: dict[int, Standing]
) -> None:
    asked = Counter(slot.tenant_id for slot in choose(wanted, free, slots, lanes))
    for tenant_id, count in asked.items():
        held = sum(slot.tenant_id == tenant_id and not slot.ending for slot in slots)
        assert held - count >= lanes[tenant_id].least


@given(numbers, numbers, held_slots, standings)
def test_only_those_are_asked_who_may_be_and_were_not_yet(
    wanted: int, free: int, slots: list[HeldSlot], lanes: dict[int, Standing]
) -> None:
    for slot in choose(wanted, free, slots, lanes):
        assert slot in slots
        assert slot.may_be_asked
        assert not slot.ending


@given(held_slots, standings)
def test_the_newest_run_of_the_most_served_lane_is_the_first(
    slots: list[HeldSlot], lanes: dict[int, Standing]
) -> None:
    giving = can_give(slots, lanes)
    able = [s for s in slots if s.may_be_asked and not s.ending and giving[s.tenant_id]]
    staying = [slot for slot in able if not slot.leaving] or able
    asked = choose(1 + sum(slot.ending for slot in slots), 0, slots, lanes)
    if not able:
        assert asked == []
        return
    (first,) = asked
    assert first in staying
    assert lanes[first.tenant_id].served == max(lanes[slot.tenant_id].served for slot in staying)
    lane = [slot for slot in staying if slot.tenant_id == first.tenant_id]
    assert first.seconds == min(slot.seconds for slot in lane)


@given(numbers, numbers, held_slots, standings)
def test_asking_again_while_they_stop_asks_nobody_else(
    wanted: int, free: int, slots: list[HeldSlot], lanes: dict[int, Standing]
) -> None:
    asked = set(choose(wanted, free, slots, lanes))
    later = [
        HeldSlot(slot.task_id, slot.epoch, slot.tenant_id, slot.seconds, ending=True)
        if slot in asked
        else slot
        for slot in slots
    ]
    again = choose(wanted, free, later, lanes)
    assert len(again) <= max(0, wanted - free - sum(slot.ending for slot in later))
    assert not asked & set(again)
    if len(asked) == wanted - free - sum(slot.ending for slot in slots):
        assert again == []


def test_two_lanes_that_were_served_alike_give_in_turns() -> None:
    slots = [run(tenant, seconds, cost=10) for tenant in (1, 2) for seconds in (30.0, 20.0, 10.0)]
    asked = choose(4, 0, slots, {1: Standing(100.0), 2: Standing(95.0)})
    assert [slot.tenant_id for slot in asked] == [1, 2, 1, 2]
    assert [slot.seconds for slot in asked] == [10, 10, 20, 20]


def test_a_lane_that_was_served_far_more_gives_all_before_another_gives_one() -> None:
    slots = [run(tenant, seconds, cost=1) for tenant in (1, 2) for seconds in (30.0, 20.0)]
    asked = choose(3, 0, slots, {1: Standing(5.0), 2: Standing(500.0)})
    assert Counter(slot.tenant_id for slot in asked) == {2: 2, 1: 1}
