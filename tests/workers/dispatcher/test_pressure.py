"""Critical work that finds nothing free: when a batch run is asked to make room, and which."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db.models.functions import Now

from tasks.models import Event, Inflight, Pause, Ready, Run, Task, Worker
from tasks.selectors.waiting import waiting_for
from tasks.services.append import Checkpoint, append
from tasks.states import RunStatus
from tenants.models import Limit, Tenant
from tests.workers.dispatcher.pressed import AFTER, Platform, asked, platform, pools
from workers.dispatcher import store

__all__ = ["platform"]


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
    platform.tell()
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
    platform.tell()
    assert (waiting_for(urgent) or {})["detail"] == (
        "Every slot for critical work is busy, and no batch run may be stopped for it."
    )
    platform.submit("critical")
    platform.end(ran[0])
    platform.go_round(seconds=AFTER / 2)
    assert pools(urgent) == ["critical"]
    assert not platform.dispatcher._pressure.told


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
