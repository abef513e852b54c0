"""What a planned stop of the last workers of a queue does to what waits for them."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.models import Event, Inflight, Parked, Ready, Task, TaskType, Worker
from tasks.outcomes import Outcome
from tasks.services.finish import finish
from tasks.services.retry import retry
from tasks.services.shutdown import drop_waiting
from tasks.states import RunStatus
from tenants.models import Tenant
from tests.tasks.api.work import dispatched, running, submitted


@pytest.fixture
def stopped(tenant: Tenant) -> Tenant:
    """A tenant of a platform whose only worker of the queue `normal` was stopped as planned."""
    TaskType.objects.filter(name="test.dummy").update(on_shutdown="drop")
    Worker.objects.filter(queue="normal").update(status="gone")
    return tenant


def last_event(task: Task) -> dict[str, Any]:
    return dict(Event.objects.filter(task_id=task.pk, kind="state").latest("seq").data)


def test_what_never_started_is_dropped_and_its_event_says_so(stopped: Tenant) -> None:
    in_line, published = submitted(stopped), submitted(stopped)
    dispatched(published)
    beside = [submitted(stopped, key="k", key_policy="queue") for _ in range(2)][1]
    assert Parked.objects.filter(pk=beside.pk).exists()
    assert drop_waiting(["normal"]) == 4
    for task in (in_line, published, beside):
        task.refresh_from_db()
        assert (task.status, task.status_reason, task.attempt) == ("dropped", "shutdown", 0)
        assert task.cancel_requested_at is None
        assert last_event(task)["started"] is False
    for place in (Ready, Parked, Inflight):
        assert not place.objects.exists()


def test_what_waits_for_its_next_attempt_had_started(stopped: Tenant) -> None:
    task = submitted(stopped)
    claimed = running(task)
    finish(task.pk, claimed.epoch, Outcome(RunStatus.LOST))
    assert drop_waiting(["normal"]) == 1
    assert last_event(task)["started"] is True


def test_what_waits_for_something_else_or_whose_type_does_not_say_so_stays(stopped: Tenant) -> None:
    parent = submitted(stopped, "lint.mypy")
    child = submitted(stopped, depends_on=(parent.pk,))
    elsewhere = submitted(stopped, queue="batch")
    assert drop_waiting(["normal"]) == 0
    for task, status in ((parent, "queued"), (child, "blocked"), (elsewhere, "queued")):
        task.refresh_from_db()
        assert task.status == status


def test_a_queue_that_another_machine_serves_has_lost_nothing(stopped: Tenant) -> None:
    Worker.objects.filter(queue="normal").update(status="alive")
    submitted(stopped)
    assert drop_waiting(["normal"]) == 0


def test_who_waits_for_what_was_dropped_is_told_and_both_can_come_back(stopped: Tenant) -> None:
    task = submitted(stopped)
    child = submitted(stopped, depends_on=(task.pk,))
    drop_waiting(["normal"])
    child.refresh_from_db()
    assert (child.status, child.status_reason) == ("cancelled", "parent_dropped")
    assert retry(task.pk, by="user:bob").status == "queued"
    child.refresh_from_db()
    assert child.status == "blocked"
