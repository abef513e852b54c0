"""From the processes that a machine has to those it should have, whatever it begins with."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.pools.breathing import share
from ops.pools.steps import Process, Steps, least_busy, next_steps
from switchyard.bounds import Bounds
from switchyard.handler import QUEUES

some_bounds = st.tuples(st.integers(0, 30), st.integers(0, 30)).map(
    lambda pair: Bounds(min(pair), max(pair))
)
all_bounds = st.fixed_dictionaries(dict.fromkeys(QUEUES, some_bounds))


@st.composite
def process_lists(draw: st.DrawFn) -> list[Process]:
    sizes = draw(st.lists(st.tuples(st.sampled_from(QUEUES), st.integers(1, 8)), max_size=12))
    return [
        Process(f"{queue}-{number}", queue, slots, busy=draw(st.integers(0, slots)))
        for number, (queue, slots) in enumerate(sizes)
    ]


@given(process_lists(), all_bounds, st.integers(0, 100), st.data())
@settings(deadline=None)
def test_every_machine_gets_to_its_targets_and_then_rests(
    processes: list[Process], bounds: dict[str, Bounds], capacity: int, data: st.DataObject
) -> None:
    needs = {queue: data.draw(st.integers(each.least, each.most)) for queue, each in bounds.items()}
    targets = share(needs, bounds, capacity)
    leaving: list[Process] = []
    began = sum(process.slots for process in processes)
    for round_number in range(200):
        steps = next_steps(
            processes,
            targets,
            bounds,
            capacity=capacity,
            leaving=sum(process.busy for process in leaving),
        )
        if steps == Steps() and not leaving:
            break
        drained = [process for process in processes if process.name in steps.drain]
        # What drains ends some time later.
        leaving = drained if round_number % 2 else [*leaving, *drained]
        processes = [process for process in processes if process not in drained]
        processes += [
            Process(f"{queue}-{round_number}.{number}", queue, slots)
            for number, (queue, slots) in enumerate(steps.start)
        ]
        used = sum(process.slots for process in processes) + sum(each.busy for each in leaving)
        assert used <= max(capacity, began)
    else:
        raise AssertionError("it never rests")
    for queue, wanted in targets.items():
        assert sum(process.slots for process in processes if process.queue == queue) == wanted


@given(process_lists(), st.integers(0, 40))
@settings(deadline=None)
def test_who_drains_are_as_many_slots_as_may_go_and_the_fewest_tasks(
    processes: list[Process], slots: int
) -> None:
    chosen = least_busy(processes, slots)
    total, busy = sum(each.slots for each in chosen), sum(each.busy for each in chosen)
    assert total <= slots
    for number in range(2 ** min(len(processes), 9)):
        other = [each for place, each in enumerate(processes[:9]) if number >> place & 1]
        others = sum(each.slots for each in other)
        assert others > slots or others <= total
        assert others != total or sum(each.busy for each in other) >= busy


def test_idle_processes_go_first_and_of_equal_ones_the_youngest() -> None:
    processes = [Process("a", "batch", 1), Process("b", "batch", 1, busy=1), Process("c", "batch", 1)]
    assert [each.name for each in least_busy(processes, 1)] == ["c"]
    assert {each.name for each in least_busy(processes, 2)} == {"a", "c"}


@pytest.mark.parametrize(
    ("bounds", "wanted", "sizes"),
    [
        (Bounds(2, 2), 2, [2]),
        (Bounds(0, 0), 0, []),
        (Bounds(8, 8), 8, [8]),
        (Bounds(9, 9), 9, [5, 4]),
        (Bounds(17, 17), 17, [6, 6, 5]),
        (Bounds(2, 8), 4, [2, 1, 1]),
        (Bounds(0, 64), 16, [8, 8]),
        (Bounds(4, 36), 12, [4, 4, 4]),
    ],
)
def test_the_minimum_is_in_few_processes_and_what_is_above_in_small_ones(
    bounds: Bounds, wanted: int, sizes: list[int]
) -> None:
    steps = next_steps([], {"normal": wanted}, {"normal": bounds}, capacity=100)
    assert [slots for _, slots in steps.start] == sizes


def test_the_most_important_pool_gets_the_room_that_there_is() -> None:
    bounds = {"critical": Bounds(2, 8), "batch": Bounds(0, 4)}
    batch = [Process(f"batch-{number}", "batch", 1, busy=1) for number in range(4)]
    critical = Process("critical-1", "critical", 2, busy=1)
    now = [critical, *batch]
    steps = next_steps(now, {"critical": 3, "batch": 3}, bounds, capacity=6)
    assert (steps.start, steps.drain) == ([], ["batch-3"])
    left = [critical, *batch[:3]]
    assert next_steps(left, {"critical": 3, "batch": 3}, bounds, capacity=6, leaving=1) == Steps()
    steps = next_steps(left, {"critical": 3, "batch": 3}, bounds, capacity=6)
    assert steps == Steps(start=[("critical", 1)])


def test_a_process_that_is_too_large_is_replaced_before_it_goes() -> None:
    bounds = {"normal": Bounds(4, 4)}
    large, small = Process("normal-1", "normal", 8, busy=2), Process("normal-2", "normal", 4)
    roomy = next_steps([large], {"normal": 4}, bounds, capacity=20)
    assert roomy == Steps(start=[("normal", 4)])
    starting = next_steps([large, replace(small, up=False)], {"normal": 4}, bounds, capacity=20)
    assert starting == Steps()
    assert next_steps([large, small], {"normal": 4}, bounds, capacity=20).drain == ["normal-1"]
    # Without room it has to go before.
    assert next_steps([large], {"normal": 4}, bounds, capacity=8).drain == ["normal-1"]


def test_what_is_being_replaced_by_an_operator_is_left_alone() -> None:
    held = Process("batch-1", "batch", 2, held=True)
    assert next_steps([held], {"batch": 0}, {"batch": Bounds(0, 4)}, capacity=8) == Steps()
