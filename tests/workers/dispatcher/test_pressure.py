"""Critical work that finds nothing free: when batch lends a slot, when a batch run has to make room."""

from __future__ import annotations

import uuid
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.db.models import F
from django.db.models.functions import Now

from tasks.models import Event, Inflight, Leader, Pause, Ready, Run, Task, Worker
from tasks.outcomes import Outcome
from tasks.selectors.waiting import waiting_for
from tasks.services.append import Checkpoint, append
from tasks.services.claim import claim
from tasks.services.finish import finish
from tasks.states import RunStatus
from tenants.models import Limit, Tenant
from tests.tasks.api.work import WORKER, submitted
from workers.dispatcher import store
from workers.dispatcher.loop import Dispatcher
from workers.dispatcher.publisher import Publisher
from workers.dispatcher.reaper import ring_again

WORKERS = {"critical": WORKER, "normal": uuid.UUID(int=8), "batch": uuid.UUID(int=9)}
AFTER = 0.5


class Platform:
    """A leading dispatcher that goes round when it is told to, and workers who do as they are told."""

    def __init__(self, tenant: Tenant, clock: list[float]) -> None:
        self.tenant = tenant
        self.clock = clock
        self.dispatcher = Dispatcher()
        assert self.dispatcher._take_lead()

    def submit(self, queue: str, count: int = 1, **options: Any) -> list[Task]:
        tenant = options.pop("tenant", self.tenant)
        return [submitted(tenant, queue=queue, **options) for _ in range(count)]

    def go_round(self, *, seconds: float = 0.0) -> None:
        """Let time pass, then look and dispatch once."""
        if seconds:
            self.clock[0] += seconds
            passed = timedelta(seconds=seconds)
            Task.objects.filter(status="queued").update(queued_at=F("queued_at") - passed)
        Worker.objects.filter(status="alive").update(seen_at=Now())
        self.dispatcher._look({"*"})
        self.dispatcher._dispatch()

    def claim(self, *tasks: Task) -> None:
        """Let workers of the pools that the tasks were sent to claim them."""
        for task in tasks:
            row = Inflight.objects.get(pk=task.pk)
            pool = row.pool or row.queue
            assert self.claimed_by(task, pool), task

    def claimed_by(self, task: Task, pool: str) -> bool:
        row = Inflight.objects.get(pk=task.pk)
        found = claim(
            task.pk,
            row.epoch,
            row.token,
            queue=pool,
            worker=WORKERS[pool],
            machine="m1",
            isolation="process",
            pid=1,
        )
        return found is not None

    def run(self, queue: str, count: int, **options: Any) -> list[Task]:
        tasks = self.submit(queue, count, **options)
        self.go_round()
        self.claim(*tasks)
        return tasks

    def end(self, task: Task, status: RunStatus = RunStatus.COMPLETED) -> Task:
        finish(task.pk, Inflight.objects.get(pk=task.pk).epoch, Outcome(status))
        task.refresh_from_db()
        return task


@pytest.fixture
def platform(tenant: Tenant, monkeypatch: pytest.MonkeyPatch, settings: Any) -> Platform:
    settings.SWITCHYARD = settings.SWITCHYARD.model_copy(update={"preempt_after": AFTER})
    Leader.objects.filter(name="dispatcher").update(renewed_at="2020-01-01T00:00:00Z")
    clock = [1000.0]
    monkeypatch.setattr("workers.dispatcher.pressure.time", SimpleNamespace(monotonic=lambda: clock[0]))
    return Platform(tenant, clock)


def asked(*tasks: Task) -> list[bool]:
    return [Inflight.objects.get(pk=task.pk).ask == "preempt" for task in tasks]


def pools(*tasks: Task) -> list[str | None]:
    """Where each task was sent; None: it waits in line."""
    rows = {row.pk: row.pool or row.queue for row in Inflight.objects.all()}
    return [rows.get(task.pk) for task in tasks]


def test_critical_work_waits_a_moment_then_gets_the_slot_of_the_newest_batch_run(
    platform: Platform,
) -> None:
    platform.run("critical", 2)
    older, newer = platform.run("batch", 2, preemptible=True)
    (urgent,) = platform.submit("critical")
    platform.go_round()
    platform.go_round(seconds=AFTER / 2)
    assert asked(older, newer) == [False, False]
    platform.go_round(seconds=AFTER)
    assert asked(older, newer) == [False, True]
    notes = Event.objects.filter(task_id=newer.pk, kind="note")
    assert [(note.data, note.run) for note in notes] == [({"preempt_requested": True}, 1)]
    # No storm: whoever was asked counts as about to make room.
    for _ in range(3):
        platform.go_round(seconds=AFTER)
    assert asked(older, newer) == [False, True]
    platform.end(newer, RunStatus.PREEMPTED)
    platform.go_round()
    assert pools(urgent, newer) == ["batch", None]
    assert platform.claimed_by(urgent, "batch")
    newer.refresh_from_db()
    assert (newer.status, newer.status_reason) == ("queued", "preempted")
    assert (newer.preemptions, newer.failures, newer.losses, newer.restarts) == (1, 0, 0, 0)
    assert Event.objects.filter(task_id=newer.pk).latest("seq").data["reason"] == "preempted"


def test_a_task_that_has_just_come_waits_its_moment_behind_those_that_have_waited(
    platform: Platform,
) -> None:
    platform.run("critical", 2)
    batch = platform.run("batch", 2, preemptible=True)
    platform.submit("critical")
    platform.go_round()
    platform.go_round(seconds=AFTER)
    platform.submit("critical")
    platform.go_round(seconds=AFTER / 2)
    assert sorted(asked(*batch)) == [False, True]
    platform.go_round(seconds=AFTER)
    assert asked(*batch) == [True, True]


def test_what_waited_for_something_else_waits_its_moment_for_a_slot(platform: Platform) -> None:
    limit = Limit.objects.create(tenant=platform.tenant, queue="critical", running=2)
    platform.run("critical", 2)
    batch = platform.run("batch", 2, preemptible=True)
    platform.submit("critical")
    platform.go_round()
    platform.go_round(seconds=600)
    limit.delete()
    platform.go_round()
    assert asked(*batch) == [False, False]
    platform.go_round(seconds=AFTER)
    assert asked(*batch) == [False, True]


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


def test_what_was_preempted_keeps_its_place_and_starts_when_the_pressure_is_gone(
    platform: Platform,
) -> None:
    platform.run("critical", 2)
    first, second = platform.run("batch", 2, preemptible=True)
    third, *_ = platform.submit("batch", 2, preemptible=True)
    (urgent,) = platform.submit("critical")
    platform.go_round()
    platform.go_round(seconds=AFTER)
    place = Inflight.objects.get(pk=second.pk)
    platform.end(second, RunStatus.PREEMPTED)
    platform.go_round()
    ready = Ready.objects.get(pk=second.pk)
    assert (ready.rank, ready.ordinal) == (place.rank, place.ordinal)
    platform.claim(urgent)
    platform.go_round(seconds=AFTER)
    assert pools(second, third) == [None, None]
    platform.end(urgent)
    platform.go_round()
    assert pools(first, second, third) == ["batch", "batch", None]


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


def test_nobody_is_stopped_for_what_could_not_be_dispatched_although_there_was_room(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform.run("critical", 1)
    batch = platform.run("batch", 2, preemptible=True)
    platform.submit("critical")
    # As when limits change all the time, so that each decision is void.
    monkeypatch.setattr(store, "dispatch", lambda *_decided: [])
    platform.go_round()
    platform.go_round(seconds=AFTER)
    assert asked(*batch) == [False, False]


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
    lane = next(each for each in platform.dispatcher._queues["critical"].lanes())
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
    assert platform.dispatcher._busy_slots == {"critical": 2, "normal": 0, "batch": 2}
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
    assert ring_again(platform.dispatcher._leadership.epoch or 0, Publisher()) == 1
    assert [(bell.task_id, bell.queue, bell.epoch) for bell in rung] == [
        (lent.pk, "critical", before.epoch + 1)
    ]
    assert not platform.claimed_by(lent, "batch")
    assert platform.claimed_by(lent, "critical")


def test_only_runs_that_lose_nothing_but_work_are_asked(platform: Platform, settings: Any) -> None:
    Worker.objects.filter(queue="batch").update(slots=5)
    platform.run("critical", 2)
    (plain,) = platform.run("batch", 1, idempotent=False, preemptible=True)
    (unwilling,) = platform.run("batch", 1, preemptible=False)
    (saved,) = platform.run("batch", 1, idempotent=False, preemptible=True)
    (emptied,) = platform.run("batch", 1, idempotent=False, preemptible=True)
    (often,) = platform.run("batch", 1, preemptible=True)
    for task, data in ((saved, {"step": 1}), (emptied, None)):
        append(task.pk, 1, [Checkpoint(Task.objects.get(pk=task.pk).created_at, data)])
    most = settings.SWITCHYARD.max_preemptions
    Task.objects.filter(pk=often.pk).update(preemptions=most)
    platform.submit("critical", 5)
    platform.go_round()
    platform.go_round(seconds=AFTER)
    assert asked(plain, unwilling, saved, emptied, often) == [False, False, True, False, False]
    Task.objects.filter(pk=often.pk).update(preemptions=most - 1)
    platform.go_round(seconds=AFTER)
    assert asked(plain, unwilling, saved, emptied, often) == [False, False, True, False, True]


def test_the_most_served_tenant_gives_first(platform: Platform) -> None:
    other = Tenant.objects.create(slug="other", name="Other")
    Worker.objects.filter(queue="batch").update(slots=3)
    platform.run("critical", 2)
    mine = platform.run("batch", 2, preemptible=True)
    # Newer than both, but its lane was served less.
    (theirs,) = platform.run("batch", 1, preemptible=True, tenant=other)
    platform.submit("critical")
    platform.go_round()
    platform.go_round(seconds=AFTER)
    assert asked(*mine, theirs) == [False, True, False]


def began(task: Task, seconds: float) -> None:
    Run.objects.filter(task=task).update(started_at=Now() - timedelta(seconds=seconds))


def test_a_lane_counts_as_served_by_what_its_runs_take_and_not_by_their_estimates(
    platform: Platform,
) -> None:
    other = Tenant.objects.create(slug="other", name="Other")
    Worker.objects.filter(queue="batch").update(slots=3)
    platform.run("critical", 2)
    mine = platform.run("batch", 2, preemptible=True)
    (theirs,) = platform.run("batch", 1, preemptible=True, tenant=other)
    began(theirs, 600)
    platform.submit("critical")
    platform.go_round()
    platform.go_round(seconds=AFTER)
    assert asked(*mine, theirs) == [False, False, True]


def test_of_two_tenants_that_were_served_alike_each_gives_one(platform: Platform) -> None:
    other = Tenant.objects.create(slug="other", name="Other")
    Worker.objects.filter(queue="batch").update(slots=4)
    platform.run("critical", 2)
    mine = platform.submit("batch", 2, preemptible=True)
    theirs = platform.submit("batch", 2, preemptible=True, tenant=other)
    platform.go_round()
    platform.claim(*mine, *theirs)
    began(theirs[0], 1.5)
    platform.submit("critical", 2)
    platform.go_round()
    platform.go_round(seconds=AFTER)
    assert asked(*mine, *theirs) == [False, True, False, True]


@pytest.mark.parametrize("change", [{"preempt_after": 0.0}, {"max_preemptions": 0}])
def test_it_can_be_turned_off(platform: Platform, settings: Any, change: dict[str, Any]) -> None:
    settings.SWITCHYARD = settings.SWITCHYARD.model_copy(update=change)
    platform.run("critical", 2)
    batch = platform.run("batch", 2, preemptible=True)
    platform.submit("critical")
    platform.go_round()
    platform.go_round(seconds=AFTER)
    assert asked(*batch) == [False, False]


def test_paused_critical_work_stops_nobody(platform: Platform) -> None:
    platform.run("critical", 2)
    batch = platform.run("batch", 2, preemptible=True)
    platform.submit("critical")
    Pause.objects.create(subject="type", name="test.dummy", by="operator", reason="")
    platform.go_round()
    platform.go_round(seconds=AFTER)
    assert asked(*batch) == [False, False]


def test_the_waiting_task_says_that_room_is_being_made(platform: Platform) -> None:
    platform.run("critical", 2)
    platform.run("batch", 2, preemptible=True)
    first, second = platform.submit("critical", 2)
    platform.go_round()
    platform.go_round(seconds=AFTER)
    platform.dispatcher._write_lanes()
    told = waiting_for(first) or {}
    assert (told["reason"], told["position"]) == ("dispatch", 0)
    assert told["detail"] == (
        "Every slot for critical work is busy; 2 batch runs are being stopped to make room."
    )
    assert "before it in the line" in (waiting_for(second) or {})["detail"]


def test_the_waiting_task_says_that_nobody_may_be_stopped_for_it(platform: Platform) -> None:
    ran = platform.run("critical", 2)
    platform.run("batch", 2)
    (urgent,) = platform.submit("critical")
    platform.go_round()
    platform.go_round(seconds=AFTER)
    platform.dispatcher._write_lanes()
    assert (waiting_for(urgent) or {})["detail"] == (
        "Every slot for critical work is busy, and no batch run may be stopped for it."
    )
    platform.submit("critical")
    platform.end(ran[0])
    platform.go_round(seconds=AFTER / 2)
    assert pools(urgent) == ["critical"]
    assert not platform.dispatcher._pressure.told


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


def test_runs_of_draining_workers_make_room_for_the_machine_once_nobody_else_can(
    platform: Platform,
) -> None:
    platform.run("critical", 2)
    batch = platform.run("batch", 2, preemptible=True)
    Worker.objects.filter(queue="batch").update(status="draining")
    platform.submit("critical", 1)
    platform.go_round()
    platform.go_round(seconds=AFTER)
    assert asked(*batch) == [False, True]
    platform.end(batch[1], RunStatus.PREEMPTED)
    # The machine takes some seconds to start a critical worker in its room.
    platform.go_round(seconds=AFTER)
    assert asked(batch[0]) == [False]
    platform.go_round(seconds=10)
    assert asked(batch[0]) == [True]
