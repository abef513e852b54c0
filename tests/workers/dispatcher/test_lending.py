"""Slots of batch that are lent to critical work: when, to whom, and who may claim what has one."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db.models.functions import Now

from tasks.models import Inflight, Worker
from tasks.states import RunStatus
from tenants.models import Limit
from tests.workers.dispatcher.pressed import AFTER, Platform, asked, platform, pools
from workers.dispatcher import store
from workers.dispatcher.publisher import Publisher
from workers.dispatcher.reaper import Reaper

__all__ = ["platform"]


def test_the_guaranteed_minimum_of_a_batch_lane_is_left_to_it(platform: Platform) -> None:
    Limit.objects.create(tenant=platform.tenant, queue="batch", min_running=2)
    platform.run("critical", 2)
    (only,) = platform.run("batch", 1, preemptible=True)
    (urgent,) = platform.submit("critical")
    platform.go_round()
    # One slot is idle, but the lane may want it for its second task: it has work, so it comes first.
    (second,) = platform.submit("batch", preemptible=True)
    platform.go_round(seconds=AFTER)
    assert pools(urgent, second) == [None, "batch"]
    platform.claim(second)
    platform.go_round(seconds=AFTER)
    assert asked(only, second) == [False, False]
    platform.end(second)
    platform.go_round(seconds=AFTER)
    platform.go_round(seconds=AFTER)
    assert pools(urgent) == ["batch"]


def test_idle_slots_of_batch_are_lent_before_anybody_is_stopped(platform: Platform) -> None:
    platform.run("critical", 2)
    (batch,) = platform.run("batch", 1, preemptible=True)
    one, two = platform.submit("critical", 2)
    platform.go_round()
    assert pools(one, two) == [None, None]
    platform.go_round(seconds=AFTER)
    assert pools(one, two) == ["batch", None]
    assert asked(batch) == [True]


def test_nothing_is_lent_while_critical_has_a_slot_of_its_own(platform: Platform) -> None:
    running, _ = platform.run("critical", 2)
    (batch,) = platform.run("batch", 1, preemptible=True)
    (urgent,) = platform.submit("critical")
    platform.end(running)
    platform.go_round(seconds=AFTER)
    assert pools(urgent) == ["critical"]
    assert asked(batch) == [False]


def test_what_its_own_limits_hold_is_lent_nothing(platform: Platform) -> None:
    Limit.objects.create(tenant=platform.tenant, queue="critical", running=3)
    platform.run("critical", 2)
    batch = platform.run("batch", 2, preemptible=True)
    waiting = platform.submit("critical", 3)
    platform.go_round()
    platform.go_round(seconds=AFTER)
    # A third may run, and no more: one slot is needed, whatever waits.
    assert sorted(asked(*batch)) == [False, True]
    platform.end(batch[1], RunStatus.PREEMPTED)
    platform.go_round()
    assert pools(*waiting) == ["batch", None, None]
    lane = next(each for each in platform.dispatcher._picture.queues["critical"].lanes())
    assert (lane.running, lane.tenant_id) == (3, platform.tenant.pk)
    platform.go_round(seconds=AFTER)
    assert asked(batch[0]) == [False]


def test_a_lent_task_counts_as_critical_and_holds_a_slot_of_batch(platform: Platform) -> None:
    platform.run("critical", 2)
    (one,) = platform.submit("critical")
    platform.go_round()
    platform.go_round(seconds=AFTER)
    platform.claim(one)
    tasks = platform.submit("batch", 2)
    platform.go_round()
    assert sorted(map(str, pools(*tasks))) == ["None", "batch"]
    assert platform.dispatcher._picture._busy == {"critical": 2, "normal": 0, "batch": 2}
    assert Inflight.objects.filter(queue="critical").count() == 3


def test_a_worker_takes_only_what_was_sent_to_its_own_pool(platform: Platform) -> None:
    own, _ = platform.submit("critical", 2)
    platform.go_round()
    assert not platform.claimed_by(own, "batch")
    (lent,) = platform.submit("critical")
    platform.go_round()
    platform.go_round(seconds=AFTER)
    assert pools(own, lent) == ["critical", "batch"]
    assert not platform.claimed_by(lent, "critical")
    assert not platform.claimed_by(lent, "normal")
    assert platform.claimed_by(lent, "batch")


def test_a_loan_that_nobody_claims_goes_back_to_critical(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform.submit("critical", 2)
    platform.go_round()
    (lent,) = platform.submit("critical")
    platform.go_round()
    platform.go_round(seconds=AFTER)
    before = Inflight.objects.get(pk=lent.pk)
    Inflight.objects.filter(pk=lent.pk).update(lease_until=Now() - timedelta(seconds=1))
    rung: list[store.Doorbell] = []
    monkeypatch.setattr(Publisher, "publish", lambda _self, bells: rung.extend(bells))
    # The old message still waits in the broker, for a worker that may never come.
    monkeypatch.setattr(Publisher, "depth", lambda _self, _queue: 5)
    assert Reaper().ring_again(platform.dispatcher._leadership.epoch or 0, Publisher()) == 1
    assert [(bell.task_id, bell.queue, bell.epoch) for bell in rung] == [
        (lent.pk, "critical", before.epoch + 1)
    ]
    assert not platform.claimed_by(lent, "batch")
    assert platform.claimed_by(lent, "critical")


def test_a_pool_that_cannot_run_the_work_lends_nothing(platform: Platform) -> None:
    platform.run("critical", 2)
    batch = platform.run("batch", 1, preemptible=True)
    (worker,) = Worker.objects.filter(queue="batch")
    Worker.objects.filter(pk=worker.pk).update(types={"test.dummy": 1})
    (urgent,) = platform.submit("critical")
    platform.go_round()
    platform.go_round(seconds=AFTER)
    assert (pools(urgent), asked(*batch)) == ([None], [False])
    Worker.objects.filter(pk=worker.pk).update(types=worker.types)
    platform.go_round()
    platform.go_round(seconds=AFTER)
    assert pools(urgent) == ["batch"]
