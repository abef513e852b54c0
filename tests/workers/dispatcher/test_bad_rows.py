"""A row that PostgreSQL refuses to change is set aside; everybody else is served, and it comes later."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import OperationalError, connection
from django.db.models.functions import Now

from tasks import aside
from tasks.models import Inflight, Later, Parked, Ready, Task, Worker
from tenants.models import Tenant
from tests.tasks.api.work import WORKER, dispatched, running, submitted
from tests.tasks.refusing import Refuse, forgive, refuse
from tests.workers.dispatcher.leading import dispatcher, go_round, tenant
from workers.dispatcher import parked, reaper, store
from workers.dispatcher.lanes import MIN_DEPTH
from workers.dispatcher.loop import Dispatcher
from workers.dispatcher.reaper import Reaper

__all__ = ["dispatcher", "refuse", "tenant"]


@pytest.mark.parametrize("batch", [1, 200])
def test_a_run_that_cannot_be_given_up_does_not_hold_up_the_others(
    tenant: Tenant,
    dispatcher: Dispatcher,
    refuse: Refuse,
    monkeypatch: pytest.MonkeyPatch,
    batch: int,
) -> None:
    monkeypatch.setattr(reaper, "BATCH", batch)
    bad, good = (submitted(tenant, idempotent=False) for _ in range(2))
    for number, task in enumerate((bad, good)):
        running(task)
        ended = Now() - timedelta(seconds=20 - number)
        Inflight.objects.filter(pk=task.pk).update(lease_until=ended)
    Worker.objects.filter(pk=WORKER).update(seen_at=Now() - timedelta(minutes=1))
    waiting = submitted(tenant, queue="batch")
    refuse("task", "id", bad)
    for _ in range(3):
        go_round(dispatcher)
    assert Task.objects.get(pk=good.pk).status_reason == "lost"
    assert Task.objects.get(pk=bad.pk).status == "running"
    assert Inflight.objects.filter(pk=waiting.pk).exists()
    forgive()
    monkeypatch.setattr(aside, "SECONDS", 0.0)
    dispatcher._reaper = Reaper()
    go_round(dispatcher)
    assert Task.objects.get(pk=bad.pk).status_reason == "lost"


def test_a_message_that_cannot_be_published_again_does_not_hold_up_the_others(
    tenant: Tenant, dispatcher: Dispatcher, refuse: Refuse
) -> None:
    bad, good, lent = (submitted(tenant, type) for type in ("test.dummy", "test.dummy", "lint.ruff"))
    for task in (bad, good, lent):
        dispatched(task)
    Inflight.objects.filter(pk=lent.pk).update(pool="batch")
    Inflight.objects.update(lease_until=Now() - timedelta(seconds=1))
    refuse("inflight", "task_id", bad)
    go_round(dispatcher)
    rung = dict(Inflight.objects.values_list("task_id", "publishes"))
    assert rung == {bad.pk: 1, good.pk: 2, lent.pk: 2}
    told = {bell.task_id for bell in dispatcher._publisher.bells}  # type: ignore[attr-defined]
    assert told == {good.pk, lent.pk}
    assert dispatcher._leadership.epoch


def test_what_cannot_be_released_is_left_alone_for_a_while_and_then_tried_again(
    tenant: Tenant, refuse: Refuse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reaper, "BATCH", 1)
    bad, good = (submitted(tenant, queue_timeout=500) for _ in range(2))
    for number, task in enumerate((bad, good)):
        Later.objects.filter(task_id=task.pk).update(due_at=Now() - timedelta(seconds=20 - number))
    refuse("task", "id", bad)
    doing = Reaper()
    assert [doing.release_due(), doing.release_due()] == [0, 1]
    forgive()
    assert doing.release_due() == 0
    monkeypatch.setattr(aside, "SECONDS", -1.0)
    assert Reaper().release_due() == 1


def test_a_task_that_cannot_be_dispatched_does_not_hold_up_the_others(
    tenant: Tenant, dispatcher: Dispatcher
) -> None:
    """Its row is in two places at once, as no statement of ours would leave it."""
    tasks = [submitted(tenant) for _ in range(3)]
    bad = dispatched(tasks[0])
    columns = ("task_id", "queue", "tenant_id", "rank", "ordinal", "epoch", "type_id")
    Ready.objects.create(**{column: getattr(bad, column) for column in columns})
    Worker.objects.filter(queue="normal").update(slots=100)
    for _ in range(3):
        go_round(dispatcher)
    assert set(Inflight.objects.values_list("task_id", flat=True)) == {task.pk for task in tasks}
    assert [row.pk for row in Ready.objects.all()] == [bad.pk]
    told = [bell.task_id for bell in dispatcher._publisher.bells]  # type: ignore[attr-defined]
    assert set(told) >= {task.pk for task in tasks[1:]}
    assert dispatcher._leadership.epoch
    # As soon as it can be dispatched, it is.
    bad.delete()
    dispatcher._not_sent = aside.Aside("ready task")
    go_round(dispatcher)
    assert not Ready.objects.exists()


def test_as_many_bad_tasks_as_are_read_ahead_do_not_stop_their_queue(
    tenant: Tenant, dispatcher: Dispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Tenant.objects.create(slug="other", name="Other")
    bad = [submitted(tenant) for _ in range(2 * MIN_DEPTH)]
    good = [submitted(each) for each in (tenant, other, tenant, other)]
    Worker.objects.filter(queue="normal").update(slots=1)
    for task in bad:
        with dispatcher._not_sent.trying(task.pk):
            raise ValueError("bad")
    asked = []
    heads = store.heads
    monkeypatch.setattr(store, "heads", lambda *args: asked.append(args) or heads(*args))
    for _ in good:
        go_round(dispatcher)
        Inflight.objects.all().delete()
    told = [bell.task_id for bell in dispatcher._publisher.bells]  # type: ignore[attr-defined]
    assert set(told) == {task.pk for task in good}
    assert set(Ready.objects.values_list("pk", flat=True)) == {task.pk for task in bad}
    assert len(asked) < 10 * len(good)


@pytest.mark.parametrize("state", ["53100", "53200", "57014", "58030"])
def test_what_the_server_lacks_is_no_rows_fault(tenant: Tenant, state: str) -> None:
    held = aside.Aside[int]("row")
    raising = f"DO $$ BEGIN RAISE EXCEPTION 'full' USING ERRCODE = '{state}'; END $$"
    with pytest.raises(OperationalError), held.trying(1), connection.cursor() as cursor:
        cursor.execute(raising)
    assert held.keys() == []


def test_a_parked_task_that_is_in_its_line_as_well_comes_back_as_one(
    tenant: Tenant, dispatcher: Dispatcher
) -> None:
    double, other = submitted(tenant), submitted(tenant)
    (row, _) = Ready.objects.order_by("ordinal").values()
    parked.park(dispatcher._leadership.epoch or 0, [double.pk, other.pk], "paused")
    Ready.objects.create(**row)
    Worker.objects.filter(queue="normal").update(slots=0)
    for _ in range(2):
        go_round(dispatcher)
    assert set(Ready.objects.values_list("task_id", flat=True)) == {double.pk, other.pk}
    assert not Parked.objects.exists()


def test_an_outage_is_no_rows_fault(tenant: Tenant) -> None:
    held = aside.Aside[int]("row")
    with pytest.raises(OperationalError), held.trying(1), connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    assert held.keys() == []
    connection.close()


def test_a_chore_that_fails_keeps_nobody_from_being_dispatched(
    tenant: Tenant, dispatcher: Dispatcher
) -> None:
    """What types have taken cannot be written down."""
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE estimate RENAME TO away")
    try:
        task = submitted(tenant)
        dispatcher._picture.lengths.note(task.pk)
        go_round(dispatcher)
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE away RENAME TO estimate")
    assert Inflight.objects.filter(pk=task.pk).exists()
    assert dispatcher._leadership.epoch
