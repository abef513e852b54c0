"""Preemptions against ends, cancels and losses, on real connections at once: one of them comes first."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from django.db.models.functions import Now

from tasks.models import Event, Inflight, Ready, Run, Task
from tasks.outcomes import Outcome
from tasks.replay import replay
from tasks.services.cancel import cancel
from tasks.services.finish import finish
from tasks.services.lose import Expired, lose
from tasks.services.preempt import preempt
from tasks.states import RunStatus
from tenants.models import Tenant
from tests.tasks.api.work import running, submitted
from tests.tasks.test_races import FEWER, lasting, race

__all__ = ["lasting"]

pytestmark = pytest.mark.django_db(transaction=True)


class Batch:
    """A preemptible run of the batch queue for each round."""

    def __init__(self, tenant: Tenant) -> None:
        self.tenant = tenant
        self.tasks: list[Task] = []

    def prepare(self, _number: int) -> None:
        task = submitted(self.tenant, queue="batch", preemptible=True)
        running(task)
        self.tasks.append(task)

    def preempt(self, number: int) -> bool:
        return preempt(self.tasks[number].pk, epoch=1)

    def finish(self, status: RunStatus) -> Any:
        return lambda number: finish(self.tasks[number].pk, 1, Outcome(status))


@pytest.fixture
def batch(lasting: Tenant) -> Batch:
    return Batch(lasting)


def history(task: Task) -> list[dict[str, Any]]:
    events = Event.objects.filter(task_id=task.pk).order_by("seq")
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    return [event.data for event in events]


def test_a_run_that_ends_while_it_is_asked_to_make_room_ends_as_it_did(batch: Batch) -> None:
    seen: Counter[bool] = Counter()
    acts = (batch.preempt, batch.finish(RunStatus.COMPLETED))
    for number, (asked, _) in enumerate(race(FEWER, batch.prepare, *acts)):
        task = Task.objects.get(pk=batch.tasks[number].pk)
        assert (task.status, task.preemptions) == ("completed", 0)
        noted = [data for data in history(task) if data.get("preempt_requested")]
        assert len(noted) == int(asked)
        seen[asked] += 1
    assert not Inflight.objects.exists()
    assert sum(seen.values()) == FEWER


def test_of_a_cancel_and_a_preemption_the_cancel_stays(batch: Batch) -> None:
    def ask(number: int) -> bool:
        return cancel(batch.tasks[number].pk, by="user:alice").changed

    for number, (_, cancelled) in enumerate(race(FEWER, batch.prepare, batch.preempt, ask)):
        task = batch.tasks[number]
        assert cancelled
        assert Inflight.objects.get(pk=task.pk).ask == "cancel"
        # Also where the supervisor has heard of the preemption alone.
        finish(task.pk, 1, Outcome(RunStatus.PREEMPTED))
        task.refresh_from_db()
        assert (task.status, task.status_reason) == ("cancelled", "user_cancelled")
        assert history(task)[-1]["status"] == "cancelled"


def test_a_run_that_is_lost_while_it_is_asked_to_make_room_is_lost_once(batch: Batch) -> None:
    def expire(number: int) -> None:
        batch.prepare(number)
        past = Now() - timedelta(seconds=60)
        Inflight.objects.filter(pk=batch.tasks[number].pk).update(lease_until=past, worker=None)

    def reap(number: int) -> Any:
        return lose(Expired(batch.tasks[number].pk, 1))

    for number, (asked, _) in enumerate(race(FEWER, expire, batch.preempt, reap)):
        task = Task.objects.get(pk=batch.tasks[number].pk)
        assert (task.status, task.losses, task.preemptions) == ("queued", 1, 0)
        assert Ready.objects.get(pk=task.pk).epoch == 2
        assert [run.status for run in Run.objects.filter(task=task)] == ["lost"]
        assert any(data.get("preempt_requested") for data in history(task)) == asked
        # The next attempt is asked nothing.
        running(task)
        assert Inflight.objects.get(pk=task.pk).ask is None
        finish(task.pk, 2, Outcome(RunStatus.COMPLETED))


def test_two_leaders_ask_a_run_once(batch: Batch) -> None:
    for number, answers in enumerate(race(FEWER, batch.prepare, batch.preempt, batch.preempt)):
        assert sorted(answers) == [False, True]
        assert sum("preempt_requested" in data for data in history(batch.tasks[number])) == 1


def test_nobody_is_preempted_more_often_than_may_be_and_the_events_say_all(
    batch: Batch, settings: Any
) -> None:
    settings.SWITCHYARD = settings.SWITCHYARD.model_copy(update={"max_preemptions": 2})
    batch.prepare(0)
    (task,) = batch.tasks
    for epoch in (1, 2):
        assert preempt(task.pk, epoch=epoch)
        finish(task.pk, epoch, Outcome(RunStatus.PREEMPTED))
        running(task)
    assert not preempt(task.pk, epoch=3)
    finish(task.pk, 3, Outcome(RunStatus.COMPLETED))
    task.refresh_from_db()
    assert (task.status, task.attempt, task.preemptions, task.failures) == ("completed", 3, 2, 0)
    rebuilt = replay(list(Event.objects.filter(task_id=task.pk).order_by("seq").values()))
    assert (rebuilt.status, rebuilt.preemptions) == ("completed", 2)
