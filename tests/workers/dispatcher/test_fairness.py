"""Fairness over time: pools with slots, tasks of unequal length, and what each tenant got in seconds."""

from __future__ import annotations

import heapq
import random
import uuid
from collections import Counter
from dataclasses import dataclass, field

import pytest

from workers.dispatcher.allowances import LaneLimits, TenantLimits, Tenants
from workers.dispatcher.lanes import Candidate, Lane, Lanes

SLOTS = 10


@dataclass
class Pool:
    """A pool whose tenants always have work, on a clock of its own."""

    limits: dict[int, TenantLimits]
    #: How long each tenant's tasks take, by type: seconds, drawn with equal chances.
    lengths: dict[int, dict[int, tuple[float, float]]]
    seconds: Counter[int] = field(default_factory=Counter)

    def run(self, until: float, *, seed: int = 1) -> None:
        """Keep all slots busy and count the worker-seconds that each tenant had within the time."""
        dice = random.Random(seed)
        tenants = Tenants()
        tenants.set_limits(self.limits)
        lanes = Lanes("normal", tenants)
        for tenant_id in self.limits:
            lanes.wake(tenant_id)
        ends: list[tuple[float, int, int, float, float]] = []
        now, number = 0.0, 0
        while now < until:
            while len(ends) < SLOTS:
                for tenant_id in lanes.hungry(10):
                    kinds = list(self.lengths[tenant_id])
                    rows = [Candidate(uuid.uuid4(), 0, n, dice.choice(kinds)) for n in range(50)]
                    lanes.feed(tenant_id, rows, complete=False)
                choice = lanes.pick()
                if choice is None:
                    break
                tenant_id, candidate = choice
                charged = tenants.seconds(candidate.type_id)
                took = dice.uniform(*self.lengths[tenant_id][candidate.type_id])
                self.seconds[tenant_id] += min(took, until - now)  # type: ignore[assignment]
                number += 1
                heapq.heappush(ends, (now + took, number, candidate.type_id, took, charged))
                self._owner[number] = tenant_id
            now, ended, type_id, took, charged = heapq.heappop(ends)
            tenant_id = self._owner.pop(ended)
            tenants.learn(type_id, took)
            lanes.true_up(tenant_id, took - charged)
            tenants.add_running(tenant_id, "normal", -1)
            lanes.set_running(tenant_id, tenants.running_in(tenant_id, "normal"))

    _owner: dict[int, int] = field(default_factory=dict)


def weighs(weight: float, **options: int) -> TenantLimits:
    return TenantLimits(lanes={"normal": LaneLimits(weight=weight, **options)}, name="acme")


@pytest.mark.parametrize(
    "lengths",
    [
        # The light one's tasks are long, the heavy one's short; and the other way round.
        {1: {1: (8.0, 12.0)}, 2: {2: (0.2, 1.0)}},
        {1: {1: (0.2, 1.0)}, 2: {2: (8.0, 12.0)}},
        # One type for both that says nothing of how long a task will take.
        {1: {1: (0.1, 4.0)}, 2: {1: (4.0, 16.0)}},
        {1: {1: (0.1, 1.0), 2: (10.0, 20.0)}, 2: {3: (1.0, 9.0), 2: (10.0, 20.0)}},
    ],
)
def test_one_to_four_is_one_to_four_in_worker_seconds(
    lengths: dict[int, dict[int, tuple[float, float]]],
) -> None:
    pool = Pool({1: weighs(1), 2: weighs(4)}, lengths)
    pool.run(8_000)
    assert sum(pool.seconds.values()) > 0.99 * SLOTS * 8_000
    assert pool.seconds[2] / pool.seconds[1] == pytest.approx(4, rel=0.02)


def test_a_guaranteed_minimum_is_had_however_little_the_tenant_weighs() -> None:
    pool = Pool(
        {1: weighs(0.01, min_running=3), 2: weighs(100)}, {1: {1: (1.0, 3.0)}, 2: {2: (1.0, 3.0)}}
    )
    pool.run(3_000)
    assert pool.seconds[1] / 3_000 == pytest.approx(3, rel=0.02)


def test_what_one_may_not_use_goes_to_the_others_by_weight() -> None:
    lengths = {number: {number: (1.0, 3.0)} for number in (1, 2, 3)}
    pool = Pool({1: weighs(10, running=2), 2: weighs(1), 3: weighs(3)}, lengths)
    pool.run(4_000)
    assert pool.seconds[1] / 4_000 == pytest.approx(2, rel=0.02)
    assert pool.seconds[3] / pool.seconds[2] == pytest.approx(3, rel=0.02)


def test_a_tenant_below_its_minimum_leaves_the_others_their_shares() -> None:
    # The first is served whatever its time, which runs far ahead: the others' clock must not follow it.
    limits = {1: weighs(0.01, min_running=3), 2: weighs(1), 3: weighs(4)}
    pool = Pool(limits, {number: {number: (1.0, 3.0)} for number in limits})
    pool.run(3_000)
    assert pool.seconds[3] / pool.seconds[2] == pytest.approx(4, rel=0.03)


class Watched(Lanes):
    """Lanes that count how often one of them is looked at."""

    looks = 0

    def held_by(self, lane: Lane) -> tuple[str, str]:
        self.looks += 1
        return super().held_by(lane)


def test_lanes_at_their_limit_cost_nothing() -> None:
    tenants = Tenants()
    tenants.set_limits({number: weighs(1, running=0) for number in range(1, 2000)})
    lanes = Watched("normal", tenants)
    for number in range(2000):
        lanes.wake(number)
    lanes.feed(0, [Candidate(uuid.uuid4(), 0, n, 1) for n in range(100)], complete=True)
    lanes.looks = 0
    assert sum(lanes.pick() is not None for _ in range(100)) == 100
    assert lanes.looks <= 300


def test_looking_again_and_again_does_not_let_the_heap_grow() -> None:
    tenants = Tenants()
    lanes = Lanes("normal", tenants)
    for _ in range(100):
        for number in range(50):
            lanes.wake(number)
            lanes.true_up(number, 0.5)
    assert sum(len(heap) for heap in lanes._heaps) <= 2 * 50 + 65


def test_a_rate_lets_one_seconds_worth_start_at_once_and_then_as_many_a_second() -> None:
    tenants = Tenants()
    tenants.set_limits({1: TenantLimits(dispatch_per_second=4, name="acme")})
    lanes = Lanes("normal", tenants)
    lanes.wake(1)
    lanes.feed(1, [Candidate(uuid.uuid4(), 0, n, 1) for n in range(1000)], complete=True)
    started = []
    for tenth in range(101):
        lanes.reconsider(tenants.tick(tenth / 10))
        started.append(sum(1 for _ in iter(lanes.pick, None)))
    assert started[0] == 4
    assert sum(started) == 4 + 40
    assert max(started[1:]) <= 1
    (lane,) = lanes.lanes()
    assert lanes.held_by(lane) == ("rate", "acme may start 4 tasks a second")
    assert 0 < tenants.next_token() <= 0.25


def test_a_start_that_did_not_happen_costs_no_rate() -> None:
    tenants = Tenants()
    tenants.set_limits({1: TenantLimits(dispatch_per_second=1, name="acme")})
    lanes = Lanes("normal", tenants)
    lanes.wake(1)
    rows = [Candidate(uuid.uuid4(), 0, n, 1) for n in range(2)]
    lanes.feed(1, rows, complete=True)
    assert lanes.pick() is not None
    assert lanes.pick() is None
    lanes.put_back(1, tenants.seconds(1))
    lanes.feed(1, rows, complete=True)
    assert lanes.pick() is not None
