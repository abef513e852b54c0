"""Off-peak windows: outside them batch work of a tenant or a type waits, and nothing else does."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tasks.models import Inflight, Lane, Parked, Ready, Task
from tasks.selectors.waiting import waiting_for
from tenants.windows import windows_of
from tests.conftest import Eventually
from tests.tasks.api.work import submitted
from tests.tenants.callers import World
from tests.tenants.hours import ALWAYS, around, closed_for_days
from tests.workers.dispatcher.rounds import dispatcher, go_round
from workers.dispatcher import picture
from workers.dispatcher.allowances import LaneLimits, TenantLimits, Tenants
from workers.dispatcher.lanes import FRONT, Candidate, Lanes
from workers.dispatcher.loop import Dispatcher
from workers.dispatcher.off_peak import ASK_AGAIN_SECONDS, Calendar

__all__ = ["dispatcher"]

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)


def hold_tenant(acme: World, windows: dict[str, Any] | None) -> None:
    body = {"queues": {"batch": {"windows": windows}}}
    answer = acme.operator().send("PUT", "/api/v1/tenants/acme/limits", body)
    assert answer.status_code == 200, answer.content


def hold_type(acme: World, windows: dict[str, Any] | None, name: str = "test.dummy") -> None:
    path = f"/api/v1/operator/task-types/{name}/windows"
    answer = acme.operator().send("PUT", path, windows or {"windows": []})
    assert answer.status_code == 200, answer.content


def told(task: Task) -> tuple[str, str]:
    found = waiting_for(task) or {}
    return found["reason"], found["detail"]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> dict[str, datetime]:
    """The database's clock as the dispatcher sees it, set by the test."""
    clock = {"now": NOON}
    monkeypatch.setattr(picture, "database_now", lambda: clock["now"])
    return clock


def test_a_tenants_batch_work_waits_and_all_other_work_goes(acme: World, dispatcher: Dispatcher) -> None:
    hold_tenant(acme, closed_for_days())
    waits = submitted(acme.acme, queue="batch")
    goes = {submitted(acme.acme).pk, submitted(acme.other, queue="batch").pk}
    assert go_round(dispatcher) == goes
    reason, detail = told(waits)
    assert reason == "off_peak"
    assert detail.startswith("batch tasks of acme are held until 20")
    assert detail.endswith(" 22:00 in Europe/Berlin).")
    dispatcher._picture.write_lanes()
    lane = Lane.objects.get(tenant_id=acme.acme.pk, queue="batch")
    assert (lane.waiting_for, lane.detail) == ("off_peak", detail)
    hold_tenant(acme, ALWAYS)
    assert told(waits)[0] == "dispatch"
    assert go_round(dispatcher) == goes | {waits.pk}


def test_a_types_batch_work_is_parked_for_all_tenants_and_its_other_work_goes(
    acme: World, dispatcher: Dispatcher
) -> None:
    hold_type(acme, closed_for_days())
    waiting = [submitted(tenant, queue="batch") for tenant in (acme.acme, acme.other)]
    goes = {submitted(acme.acme).pk, submitted(acme.acme, "lint.mypy", queue="batch").pk}
    assert go_round(dispatcher) == goes
    assert set(Parked.objects.values_list("task_id", "reason")) == {
        (task.pk, "off_peak") for task in waiting
    }
    reason, detail = told(waiting[0])
    assert reason == "off_peak"
    assert detail.startswith("batch tasks of the type test.dummy are held until 20")
    Inflight.objects.all().delete()  # there are two slots
    hold_type(acme, None)
    assert told(waiting[0])[0] == "dispatch"
    assert go_round(dispatcher) == {task.pk for task in waiting}
    assert not Ready.objects.exists()


@pytest.mark.parametrize("hold", [hold_tenant, hold_type])
def test_what_runs_when_a_window_closes_goes_on(acme: World, dispatcher: Dispatcher, hold: Any) -> None:
    task = submitted(acme.acme, queue="batch")
    assert go_round(dispatcher) == {task.pk}
    hold(acme, closed_for_days())
    assert go_round(dispatcher) == {task.pk}
    assert told(task)[0] == "dispatch"


@pytest.mark.parametrize("hold", [hold_tenant, hold_type])
def test_a_decision_from_before_the_windows_were_set_is_void(
    acme: World, dispatcher: Dispatcher, hold: Any
) -> None:
    submitted(acme.acme, queue="batch")
    dispatcher._look({"*"})
    hold(acme, closed_for_days())
    dispatcher._dispatch()
    assert not Inflight.objects.exists()


@pytest.mark.parametrize("hold", [hold_tenant, hold_type])
def test_time_alone_opens_a_window_and_closes_it(
    acme: World,
    dispatcher: Dispatcher,
    clock: dict[str, datetime],
    eventually: Eventually,
    hold: Any,
) -> None:
    opening = NOON + timedelta(hours=1)
    clock["now"] = opening - timedelta(milliseconds=200)
    hold(acme, around(opening))
    first = submitted(acme.acme, queue="batch")
    assert go_round(dispatcher) == set()
    clock["now"] = opening

    def started() -> bool:
        # Nothing wakes it, and it does not look through all lanes.
        dispatcher._pace._due_at["scan"] = math.inf
        dispatcher._look(set())
        dispatcher._dispatch()
        return Inflight.objects.filter(pk=first.pk).exists()

    eventually(started)
    # Noticed by the steady clock; no limit was changed, nothing woke it.
    clock["now"] = opening + timedelta(minutes=5)
    dispatcher._picture.tenants.calendar._look_at = 0.0
    second = submitted(acme.acme, queue="batch")
    assert go_round(dispatcher) == {first.pk}
    assert Ready.objects.filter(pk=second.pk).exists() == (hold is hold_tenant)


def test_a_new_leader_brings_back_what_was_parked_before_the_window_opened(
    acme: World, dispatcher: Dispatcher, clock: dict[str, datetime]
) -> None:
    hold_type(acme, around(NOON + timedelta(hours=1)))
    task = submitted(acme.acme, queue="batch")
    assert go_round(dispatcher) == set()
    dispatcher._resign()
    clock["now"] = NOON + timedelta(hours=1)
    successor = Dispatcher()
    assert successor._take_lead()
    assert go_round(successor) == {task.pk}


def test_what_is_still_closed_stays_parked_when_another_window_opens(
    acme: World, dispatcher: Dispatcher, clock: dict[str, datetime]
) -> None:
    hold_type(acme, around(NOON + timedelta(hours=1)))
    hold_type(acme, around(NOON + timedelta(hours=2)), "lint.mypy")
    soon, late = (submitted(acme.acme, type, queue="batch") for type in ("test.dummy", "lint.mypy"))
    assert go_round(dispatcher) == set()
    clock["now"] = NOON + timedelta(hours=1)
    dispatcher._picture.tenants.calendar._look_at = 0.0
    # After a slow one it would rest for a while.
    dispatcher._pace._rests_until["back"] = 0.0
    dispatcher._look(set())
    assert (Ready.objects.get().pk, Parked.objects.get().pk) == (soon.pk, late.pk)


def test_a_held_lane_is_in_no_heap_until_its_time_comes() -> None:
    tenants = Tenants()
    windows = windows_of(around(NOON + timedelta(hours=1)))
    assert windows is not None
    tenants.set_limits({1: TenantLimits(lanes={"batch": LaneLimits(windows=windows)}, name="acme")})
    tenants.calendar.use(tenants.windows(), NOON, 0.0)
    lanes = Lanes("batch", tenants)
    lanes.wake(1)
    assert (lanes.pick(), lanes.hungry(9)) == (None, {})
    assert not any(lanes._heaps)
    assert tenants.calendar.turn(NOON + timedelta(minutes=59), 1.0) == set()
    assert tenants.calendar.turn(NOON + timedelta(hours=1), 2.0) == {windows}
    lanes.reconsider(tenants.with_windows({windows}))
    assert lanes.hungry(9) == {1: FRONT}
    lanes.feed(1, [Candidate(NOON, 0, 1, 1)], complete=True)  # type: ignore[arg-type]
    assert lanes.pick() is not None


def test_the_calendar_says_when_to_look_again() -> None:
    calendar = Calendar()
    assert calendar.wait(5.0) == float("inf")
    soon, late = (windows_of(around(NOON + timedelta(minutes=minutes))) for minutes in (1, 600))
    assert soon is not None
    assert late is not None
    calendar.use([late, soon, late], NOON + timedelta(seconds=50), 100.0)
    assert calendar.wait(103.0) == pytest.approx(7.0)
    assert calendar.turn(NOON + timedelta(seconds=60), 110.0) == {soon}
    assert (calendar.closed(soon), bool(calendar.closed(late))) == ("", True)
    # However far away the next one is: the database's clock may be set.
    assert calendar.wait(110.0) == pytest.approx(ASK_AGAIN_SECONDS)
    # What is in use already is not looked up again, and what is not any more is forgotten.
    calendar.use([soon], NOON, 115.0)
    assert (calendar.closed(soon), calendar.closed(late)) == ("", "")
    assert calendar.turn(NOON + timedelta(minutes=601), 118.0) == {soon}
    calendar.use([], NOON, 120.0)
    assert calendar.wait(120.0) == float("inf")
