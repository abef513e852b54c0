"""Many parked tasks come back: a bounded number in a round, each lane in its order, and it is told."""

from __future__ import annotations

import threading

import pytest
from django.db import connection, transaction

from tasks.models import Inflight, Parked, Pause, Ready, Task, Worker
from tasks.selectors.waiting import waiting_for
from tenants.models import Tenant
from tests.tasks.api.work import submitted
from tests.workers.dispatcher.leading import dispatcher, tenant
from tests.workers.dispatcher.rounds import go_round
from workers.dispatcher import parked
from workers.dispatcher.loop import Dispatcher
from workers.dispatcher.parked import Line, Returning

TOGETHER = 6

__all__ = ["dispatcher", "tenant"]


@pytest.fixture(autouse=True)
def few_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many parked tasks, six come back together."""
    monkeypatch.setattr(parked, "TOGETHER", TOGETHER)


def slots(count: int) -> None:
    Worker.objects.filter(queue="normal").update(slots=count)


def park_all(dispatcher: Dispatcher, *tasks: Task) -> Pause:
    """Pause the type of tasks, and let the dispatcher park them."""
    pause = Pause.objects.create(subject="type", name="test.dummy", by="ops", reason="")
    slots(100)
    go_round(dispatcher)
    assert Parked.objects.filter(reason="paused").count() == len(tasks)
    return pause


def order(dispatcher: Dispatcher) -> list[object]:
    """Return what has been published, in that order."""
    return [bell.task_id for bell in dispatcher._publisher.bells]  # type: ignore[attr-defined]


def test_of_many_a_few_come_back_in_a_round_and_every_lane_has_its_share(
    tenant: Tenant, dispatcher: Dispatcher
) -> None:
    few = Tenant.objects.create(slug="few", name="Few")
    many = [submitted(tenant) for _ in range(20)]
    late = submitted(few)
    pause = park_all(dispatcher, *many, late)
    other = submitted(few, "lint.mypy")
    pause.delete()
    left = Parked.objects.count()
    rounds = 0
    while left:
        go_round(dispatcher)
        assert left - TOGETHER <= Parked.objects.count() < left
        left = Parked.objects.count()
        rounds += 1
        if rounds == 1:
            # Neither who has one, nor another type, waits for the many.
            assert {late.pk, other.pk} <= set(order(dispatcher))
    assert rounds >= 4
    assert set(order(dispatcher)) == {task.pk for task in (*many, late, other)}


def test_they_come_back_in_the_order_of_their_lane_before_what_was_submitted_since(
    tenant: Tenant, dispatcher: Dispatcher
) -> None:
    parked_ones = [submitted(tenant, priority=number % 2) for number in range(16)]
    pause = park_all(dispatcher, *parked_ones)
    # Of another type, and of the same one.
    since = [submitted(tenant, "lint.mypy"), submitted(tenant)]
    slots(0)
    pause.delete()
    go_round(dispatcher)
    slots(100)
    for _ in range(8):
        go_round(dispatcher)
    expected = sorted([*parked_ones, *since], key=lambda task: (-task.priority, task.ordinal))
    assert order(dispatcher) == [task.pk for task in expected]
    assert not Ready.objects.exists()


def test_what_is_being_brought_back_is_not_told_to_be_held(
    tenant: Tenant, dispatcher: Dispatcher
) -> None:
    tasks = [submitted(tenant) for _ in range(10)]
    pause = park_all(dispatcher, *tasks)
    assert (waiting_for(tasks[-1]) or {})["reason"] == "paused"
    pause.delete()
    go_round(dispatcher)
    last = Task.objects.select_related("tenant").get(pk=tasks[-1].pk)
    assert Parked.objects.filter(pk=last.pk).exists()
    told = waiting_for(last) or {}
    detail = "Nothing holds it any more; it is being brought back into its line."
    assert (told["reason"], told["detail"]) == ("dispatch", detail)
    Parked.objects.update(reason="no_worker")
    assert (waiting_for(last) or {})["detail"] == detail
    Worker.objects.update(status="gone")
    told = waiting_for(last) or {}
    assert (told["reason"], told["detail"]) == (
        "no_worker",
        "No worker of the normal pool can run test.dummy.",
    )


def test_a_pause_while_they_come_back_holds_the_rest(tenant: Tenant, dispatcher: Dispatcher) -> None:
    tasks = [submitted(tenant) for _ in range(20)]
    park_all(dispatcher, *tasks).delete()
    go_round(dispatcher)
    Pause.objects.create(subject="type", name="test.dummy", by="ops", reason="")
    for _ in range(3):
        go_round(dispatcher)
    assert Inflight.objects.count() == TOGETHER
    assert Parked.objects.filter(reason="paused").count() == 20 - TOGETHER
    assert not dispatcher._picture.returning.pending


def test_one_that_somebody_has_locked_comes_back_later_and_holds_up_nobody(
    tenant: Tenant, dispatcher: Dispatcher
) -> None:
    tasks = [submitted(tenant) for _ in range(3)]
    park_all(dispatcher, *tasks)
    locked, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        try:
            with transaction.atomic():
                Parked.objects.select_for_update().get(pk=tasks[0].pk)
                locked.set()
                go_on.wait(30)
        finally:
            connection.close()

    holding = threading.Thread(target=hold)
    holding.start()
    assert locked.wait(10)
    returning = Returning(lambda line: isinstance(line, Line))
    returning.look("paused")
    leader = dispatcher._leadership.epoch or 0
    assert returning.step(leader) == {("normal", tenant.pk)}
    assert returning.step(leader) == set()
    assert returning.pending
    go_on.set()
    holding.join(10)
    assert returning.step(leader) == {("normal", tenant.pk)}
    assert returning.step(leader) == set()
    assert not returning.pending
    assert Ready.objects.count() == 3
