"""Which task goes next: the rules alone, without database or clock."""

from __future__ import annotations

import uuid
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from workers.dispatcher.allowances import LaneLimits, TenantLimits, Tenants
from workers.dispatcher.lanes import FRONT, STALE_SECONDS, Candidate, Lanes

TYPE = 1


def a_queue(**limits: TenantLimits) -> tuple[Lanes, Tenants]:
    tenants = Tenants()
    tenants.set_limits({int(name[1:]): each for name, each in limits.items()})
    return Lanes("normal", tenants), tenants


def lane(**options: object) -> TenantLimits:
    return TenantLimits(lanes={"normal": LaneLimits(**options)}, name="acme")  # type: ignore[arg-type]


def fill(lanes: Lanes, tenant: int, count: int = 1000, *, rank: int = 0) -> None:
    lanes.wake(tenant)
    rows = [Candidate(uuid.uuid4(), rank, number, TYPE) for number in range(count)]
    lanes.feed(tenant, rows, complete=True)


def picked(lanes: Lanes, count: int) -> list[int]:
    found = []
    for _ in range(count):
        choice = lanes.pick()
        if choice is None:
            break
        found.append(choice[0])
    return found


def test_equal_tenants_take_turns() -> None:
    lanes, _ = a_queue()
    fill(lanes, 1)
    fill(lanes, 2)
    assert sorted(Counter(picked(lanes, 100)).values()) == [50, 50]


def test_weights_share_as_they_say() -> None:
    lanes, _ = a_queue(t1=lane(weight=1.0), t2=lane(weight=4.0))
    fill(lanes, 1)
    fill(lanes, 2)
    counts = Counter(picked(lanes, 500))
    assert abs(counts[2] / counts[1] - 4) < 0.1


def test_fairness_is_in_seconds_and_not_in_tasks() -> None:
    lanes, tenants = a_queue()
    tenants.learn(1, 1.0)
    tenants.learn(2, 10.0)
    lanes.wake(1)
    lanes.feed(1, [Candidate(uuid.uuid4(), 0, n, 1) for n in range(1000)], complete=True)
    lanes.wake(2)
    lanes.feed(2, [Candidate(uuid.uuid4(), 0, n, 2) for n in range(1000)], complete=True)
    counts = Counter(picked(lanes, 550))
    assert abs(counts[1] - 10 * counts[2]) <= 10


def test_a_lane_at_its_limit_leaves_the_heap_and_comes_back() -> None:
    lanes, tenants = a_queue(t1=lane(running=2))
    fill(lanes, 1)
    assert picked(lanes, 10) == [1, 1]
    held = next(each for each in lanes.lanes() if each.tenant_id == 1)
    assert lanes.held_by(held) == ("quota", "acme runs 2 of 2 normal tasks")
    tenants.set_running({(1, "normal"): 1})
    lanes.set_running(1, 1)
    assert picked(lanes, 10) == [1]


def test_a_tenants_total_holds_all_its_lanes() -> None:
    tenants = Tenants()
    tenants.set_limits({1: TenantLimits(running=3, name="acme")})
    normal, batch = Lanes("normal", tenants), Lanes("batch", tenants)
    fill(normal, 1)
    fill(batch, 1)
    assert len(picked(normal, 2)) + len(picked(batch, 10)) == 3
    assert picked(normal, 10) == []


def test_a_paused_tenant_gets_nothing_and_says_why() -> None:
    lanes, _ = a_queue(t1=TenantLimits(paused=True, name="acme"))
    fill(lanes, 1)
    fill(lanes, 2)
    assert set(picked(lanes, 50)) == {2}
    held = next(each for each in lanes.lanes() if each.tenant_id == 1)
    assert lanes.held_by(held)[0] == "paused"


def test_a_lane_below_its_guaranteed_minimum_goes_first() -> None:
    lanes, _ = a_queue(t2=lane(min_running=2))
    fill(lanes, 1)
    picked(lanes, 50)
    fill(lanes, 2)
    assert picked(lanes, 2) == [2, 2]


def test_idleness_saves_up_no_credit() -> None:
    lanes, _ = a_queue()
    fill(lanes, 1)
    picked(lanes, 500)
    fill(lanes, 2)
    assert sorted(Counter(picked(lanes, 100)).values()) == [50, 50]


def test_urgent_tasks_of_a_lane_come_first_and_equal_ones_in_order() -> None:
    lanes, _ = a_queue()
    lanes.wake(1)
    rows = [
        Candidate(uuid.uuid4(), rank, number, TYPE)
        for rank, number in ((-1, 2), (-1, 3), (0, 1), (0, 4))
    ]
    lanes.feed(1, rows, complete=True)
    order = [choice[1].ordinal for choice in iter(lanes.pick, None)]
    assert order == [2, 3, 1, 4]


def test_a_run_that_took_longer_than_thought_is_paid_for_later() -> None:
    lanes, _ = a_queue()
    fill(lanes, 1)
    fill(lanes, 2)
    picked(lanes, 2)
    lanes.true_up(1, 9.0)
    assert Counter(picked(lanes, 9))[2] >= 8


def test_a_pick_that_did_not_happen_is_not_charged() -> None:
    lanes, tenants = a_queue()
    fill(lanes, 1)
    assert picked(lanes, 1) == [1]
    lanes.put_back(1, tenants.seconds(TYPE))
    assert tenants.running_in(1, "normal") == 0
    assert lanes.hungry(10) == {1: FRONT}


def test_a_lane_is_read_on_where_it_was_read_to_and_now_and_then_from_its_front() -> None:
    lanes, tenants = a_queue()
    tenants.tick(100.0)
    lanes.wake(1)

    def read(*rows: tuple[int, int]) -> None:
        lanes.feed(1, [Candidate(uuid.uuid4(), *row, TYPE) for row in rows], complete=False)
        assert picked(lanes, len(rows) + 1) == [1] * len(rows)

    assert lanes.hungry(10) == {1: FRONT}
    read((-5, 7), (0, 3))
    assert lanes.hungry(10) == {1: (0, 3)}
    read((0, 4))
    tenants.tick(100.0 + STALE_SECONDS)
    # What was picked, and is not dispatched yet, would be read once more.
    assert lanes.hungry(10, {1}) == {1: (0, 4)}
    assert lanes.hungry(10) == {1: FRONT}
    read((0, 5))
    assert lanes.hungry(10) == {1: (0, 5)}
    # Something more urgent may have come.
    lanes.wake(1)
    assert lanes.hungry(10) == {1: FRONT}


@settings(max_examples=60, deadline=None)
@given(
    tenants=st.lists(
        st.tuples(
            st.integers(1, 30), st.one_of(st.none(), st.integers(1, 5)), st.sampled_from([0.5, 1, 4])
        ),
        min_size=1,
        max_size=8,
    ),
    slots=st.integers(1, 40),
)
def test_no_limit_is_passed_and_no_slot_left_empty_while_somebody_may_use_it(
    tenants: list[tuple[int, int | None, float]], slots: int
) -> None:
    known = Tenants()
    known.set_limits(
        {
            number: TenantLimits(lanes={"normal": LaneLimits(running=maximum, weight=weight)})
            for number, (_, maximum, weight) in enumerate(tenants)
        }
    )
    lanes = Lanes("normal", known)
    for number, (backlog, _, _) in enumerate(tenants):
        fill(lanes, number, backlog)
    counts = Counter(picked(lanes, slots))
    possible = 0
    for number, (backlog, maximum, _) in enumerate(tenants):
        ceiling = backlog if maximum is None else min(backlog, maximum)
        assert counts[number] <= ceiling
        possible += ceiling
    assert sum(counts.values()) == min(slots, possible)
