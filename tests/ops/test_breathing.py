"""The rule of how many slots each pool should have, for any bounds, loads and capacities."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.pools.breathing import (
    GROW_AFTER_SECONDS,
    STEPS,
    Breathing,
    Load,
    capacity_of,
    need,
    share,
    step_of,
)
from switchyard.bounds import Bounds
from switchyard.handler import QUEUES

IDLE = 60.0
WAITED = GROW_AFTER_SECONDS

some_bounds = st.tuples(st.integers(0, 40), st.integers(0, 40)).map(
    lambda pair: Bounds(min(pair), max(pair))
)
loads = st.builds(Load, busy=st.integers(0, 50), waiting=st.integers(0, 300), oldest=st.floats(0, 600))
all_bounds = st.fixed_dictionaries({}, optional=dict.fromkeys(QUEUES, some_bounds))
all_loads = st.fixed_dictionaries(dict.fromkeys(QUEUES, loads))
capacities = st.integers(0, 130)


def slots(
    bounds: dict[str, Bounds], loads: dict[str, Load], capacity: int, now: float = 0.0
) -> dict[str, int]:
    targets = Breathing(IDLE).targets(bounds, loads, capacity, now)
    return {queue: target.slots for queue, target in targets.items()}


@given(all_bounds, all_loads, capacities)
@settings(deadline=None)
def test_the_pools_never_have_more_than_the_machine_bears(
    bounds: dict[str, Bounds], loads: dict[str, Load], capacity: int
) -> None:
    assert sum(slots(bounds, loads, capacity).values()) <= capacity


@given(all_bounds, all_loads, capacities)
@settings(deadline=None)
def test_every_pool_stays_within_its_bounds_when_the_capacity_permits_the_minima(
    bounds: dict[str, Bounds], loads: dict[str, Load], more: int
) -> None:
    least = sum(each.least for each in bounds.values())
    for queue, found in slots(bounds, loads, least + more).items():
        assert bounds[queue].least <= found <= bounds[queue].most


@given(all_bounds, all_loads, capacities)
@settings(deadline=None)
def test_what_a_pool_needs_is_refused_only_when_the_capacity_is_used(
    bounds: dict[str, Bounds], loads: dict[str, Load], capacity: int
) -> None:
    found = slots(bounds, loads, capacity)
    short = [q for q, each in bounds.items() if found[q] < need(q, each, loads[q])]
    assert not short or sum(found.values()) == capacity


@given(all_bounds, all_loads, capacities, st.sampled_from(QUEUES), st.integers(1, 50), st.floats(0, 60))
@settings(deadline=None)
def test_more_work_never_makes_a_pool_smaller_nor_a_less_important_one_larger(
    bounds: dict[str, Bounds],
    loads: dict[str, Load],
    capacity: int,
    queue: str,
    more: int,
    longer: float,
) -> None:
    before = slots(bounds, loads, capacity)
    was = loads[queue]
    after = slots(
        bounds, loads | {queue: Load(was.busy, was.waiting + more, was.oldest + longer)}, capacity
    )
    for other in bounds:
        if other == queue:
            assert after[other] >= before[other]
        else:
            assert after[other] <= before[other]


@given(all_bounds, all_loads, capacities, st.integers(1, 20))
@settings(deadline=None)
def test_a_larger_capacity_takes_nothing_from_anybody(
    bounds: dict[str, Bounds], loads: dict[str, Load], capacity: int, more: int
) -> None:
    before, after = (slots(bounds, loads, each) for each in (capacity, capacity + more))
    assert all(after[queue] >= before[queue] for queue in bounds)


@given(st.lists(st.tuples(st.floats(0.1, 30), all_loads), min_size=2, max_size=40), all_bounds)
@settings(max_examples=60, deadline=None)
def test_no_pool_shrinks_within_the_idle_time_of_a_greater_need(
    history: list[tuple[float, dict[str, Load]]], bounds: dict[str, Bounds]
) -> None:
    breathing, now = Breathing(IDLE), 0.0
    needed: dict[str, list[tuple[float, int]]] = {queue: [] for queue in bounds}
    for pause, now_loads in history:
        now += pause
        found = breathing.targets(bounds, now_loads, 1000, now)
        for queue, target in found.items():
            needed[queue].append((now, need(queue, bounds[queue], now_loads[queue])))
            recent = [slots for at, slots in needed[queue] if now - at < IDLE]
            assert target.slots == max(recent)


def test_a_need_that_comes_and_goes_leaves_the_size_alone() -> None:
    breathing, bounds = Breathing(IDLE), {"normal": Bounds(1, 8)}
    sizes = [
        breathing.targets(
            bounds, {"normal": Load(busy=5 if second % 20 == 0 else 1, oldest=9)}, 10, second
        )["normal"].slots
        for second in range(300)
    ]
    assert set(sizes) == {5}


def test_critical_keeps_its_minimum_idle_beside_what_runs() -> None:
    bounds = Bounds(2, 8)
    assert [need("critical", bounds, Load(busy=busy)) for busy in range(9)] == [
        *(2, 3, 4, 5, 6, 7, 8, 8, 8)
    ]
    assert need("critical", bounds, Load(busy=1, waiting=2)) == 5


def test_normal_grows_by_the_depth_once_the_oldest_has_waited() -> None:
    bounds = Bounds(1, 8)
    assert need("normal", bounds, Load(busy=1, waiting=4, oldest=WAITED / 2)) == 1
    assert need("normal", bounds, Load(busy=1, waiting=4, oldest=WAITED)) == 5
    assert need("normal", bounds, Load(busy=1, waiting=400, oldest=WAITED)) == 8


def test_batch_gets_what_is_left_and_gives_it_back() -> None:
    bounds = {"critical": Bounds(1, 4), "normal": Bounds(1, 2), "batch": Bounds(0, 6)}
    full = {"batch": Load(busy=6, waiting=50)}
    assert slots(bounds, full, 8) == {"critical": 1, "normal": 1, "batch": 6}
    assert slots(bounds, full | {"critical": Load(busy=1)}, 8) == {
        "critical": 2,
        "normal": 1,
        "batch": 5,
    }
    assert slots(bounds, full | {"normal": Load(1, 9, 5), "critical": Load(4)}, 8)["batch"] == 2


def test_a_pool_at_zero_wakes_for_one_task_and_goes_to_sleep_again() -> None:
    breathing, bounds = Breathing(IDLE), {"batch": Bounds(0, 4)}

    def size(load: Load, now: float) -> tuple[int, str]:
        target = breathing.targets(bounds, {"batch": load}, 4, now)["batch"]
        return target.slots, target.why

    assert size(Load(), 0) == (0, "nothing waits")
    assert size(Load(waiting=1), 1) == (1, "1 task waits")
    assert size(Load(busy=1), 2) == (1, "1 busy")
    assert size(Load(), 61.9) == (1, "needed within the last 60 s")
    assert size(Load(), 62) == (0, "idle for 60 s")


def test_the_reason_says_what_holds_the_size() -> None:
    def why(queue: str, bounds: Bounds, load: Load, capacity: int = 10) -> str:
        return Breathing(IDLE).targets({queue: bounds}, {queue: load}, capacity, 0)[queue].why

    assert why("batch", Bounds(0, 0), Load(waiting=3)) == "scaled to 0"
    assert why("normal", Bounds(4, 4), Load(waiting=3)) == "fixed"
    assert why("batch", Bounds(0, 4), Load(waiting=3)) == "3 tasks wait"
    assert why("batch", Bounds(0, 4), Load(waiting=30)) == "30 tasks wait, and 4 is the maximum"
    assert why("batch", Bounds(0, 4), Load(waiting=3), 2) == "the machine's capacity of 2 slots is used"


@given(some_bounds)
@settings(deadline=None)
def test_a_pool_goes_from_one_bound_to_the_other_in_few_steps(bounds: Bounds) -> None:
    step = step_of(bounds)
    assert 1 <= step <= 8
    assert bounds.most - bounds.least <= step * STEPS


@pytest.mark.parametrize(
    ("pools", "cores", "capacity"),
    [
        ({"critical": Bounds(2, 2), "normal": Bounds(2, 2), "batch": Bounds(2, 2)}, 1, 6),
        ({"critical": Bounds(2, 8), "normal": Bounds(4, 4), "batch": Bounds(0, 4)}, 2, 8),
        ({"critical": Bounds(2, 8), "normal": Bounds(4, 4), "batch": Bounds(0, 4)}, 64, 16),
        ({"normal": Bounds(20, 30)}, 2, 20),
    ],
)
def test_a_machine_bears_four_slots_per_core_unless_the_bounds_say_otherwise(
    pools: Any, cores: int, capacity: int
) -> None:
    assert capacity_of(pools, cores) == capacity


def test_the_capacity_goes_to_minima_first() -> None:
    bounds = {"critical": Bounds(2, 8), "normal": Bounds(2, 2), "batch": Bounds(2, 2)}
    assert share({"critical": 8, "normal": 2, "batch": 2}, bounds, 7) == {
        "critical": 3,
        "normal": 2,
        "batch": 2,
    }
    assert share({"critical": 8, "normal": 2, "batch": 2}, bounds, 3) == {
        "critical": 2,
        "normal": 1,
        "batch": 0,
    }
