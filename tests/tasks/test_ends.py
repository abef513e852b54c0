"""An end and what follows from it are one change, which sees whoever was added before it."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.db.models import F

from tasks.models import Ready, Run, Task
from tasks.outcomes import Outcome
from tasks.services.cancel import cancel
from tasks.services.finish import finish
from tasks.services.lose import lose_now
from tasks.services.ready import one_change
from tasks.services.release import drop
from tasks.services.transitions import lock_task
from tasks.states import Reason, RunStatus
from tenants.models import Tenant
from tests.conftest import Eventually
from tests.tasks.api.work import publish_types, running, start_platform, submitted

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def lasting() -> Tenant:
    """A tenant whose rows other connections see."""
    publish_types()
    start_platform()
    return Tenant.objects.create(slug="ends", name="Ends")


def somebody_waits_for_us() -> bool:
    """Whether another session waits for a lock that this one holds."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT 1 FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid))"
        )
        return cursor.fetchone() is not None


def test_a_first_child_that_is_added_while_its_parent_ends_is_not_forgotten(
    lasting: Tenant, eventually: Eventually
) -> None:
    """When the end begins to wait for its task's lock, nobody can see yet that there is a child."""
    parent = submitted(lasting)
    claimed = running(parent)
    ends: list[str] = []

    def end() -> None:
        try:
            ends.append(finish(parent.pk, claimed.epoch, Outcome(RunStatus.COMPLETED)))
        finally:
            connection.close()

    ending = threading.Thread(target=end)
    with transaction.atomic():
        child = submitted(lasting, depends_on=(parent.pk,))
        ending.start()
        eventually(somebody_waits_for_us)
    ending.join(30)
    assert ends == ["completed"]
    assert Task.objects.get(pk=child.pk).status == "queued"


@pytest.mark.parametrize(
    ("step", "outcome"),
    [
        ("release_children", Outcome(RunStatus.COMPLETED)),
        ("join_line", Outcome(RunStatus.DROPPED, checkpointed=True)),
    ],
)
def test_an_end_is_not_written_without_what_follows_from_it(
    lasting: Tenant, monkeypatch: pytest.MonkeyPatch, step: str, outcome: Outcome
) -> None:
    """Whoever died between the two would leave tasks that nobody lets go, or starts, any more."""
    parent = submitted(lasting)
    child = submitted(lasting, depends_on=(parent.pk,))
    claimed = running(parent)

    def die(_task: Task) -> None:
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr(f"tasks.services.finish.{step}", die)
        with pytest.raises(SystemExit):
            finish(parent.pk, claimed.epoch, outcome)
    assert Task.objects.get(pk=parent.pk).status == "running"
    finish(parent.pk, claimed.epoch, outcome)
    released = child if step == "release_children" else parent
    assert Ready.objects.filter(pk=released.pk).exists()


def set_clock_back(task: Task) -> None:
    """Make what has begun of a task and not ended begin in an hour by the database's clock."""
    hour = timedelta(hours=1)
    Run.objects.filter(task=task, finished_at__isnull=True).update(started_at=F("started_at") + hour)
    Task.objects.filter(pk=task.pk).update(started_at=F("started_at") + hour)


@pytest.mark.parametrize("status", [RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.LOST])
def test_a_run_that_ends_before_its_start_by_the_clock_ends_all_the_same(
    lasting: Tenant, status: RunStatus
) -> None:
    task = submitted(lasting, idempotent=False)
    claimed = running(task)
    set_clock_back(task)
    error = None if status is RunStatus.COMPLETED else {"code": "broken", "message": "it broke"}
    result = {"answer": 42} if error is None else None
    now = finish(task.pk, claimed.epoch, Outcome(status, error=error, result=result, retry=False))
    task.refresh_from_db()
    run = Run.objects.get(task=task)
    assert (task.status, task.result) == (now, result)
    assert (task.finished_at, run.finished_at) == (task.started_at, run.started_at)


def test_what_has_started_is_lost_cancelled_and_dropped_whatever_the_clock_says(lasting: Tenant) -> None:
    lost, unwanted, late = (submitted(lasting, queue_timeout=500) for _ in range(3))
    claims = {task.pk: running(task) for task in (lost, unwanted, late)}
    child = submitted(lasting, depends_on=(unwanted.pk,))
    for task in (unwanted, late):
        error = {"code": "broken", "message": "it broke"}
        finish(task.pk, claims[task.pk].epoch, Outcome(RunStatus.FAILED, error=error))
    for task in (lost, unwanted, late):
        set_clock_back(task)
    assert lose_now(lost.pk, epoch=claims[lost.pk].epoch, crashed=False) == "queued"
    assert cancel(unwanted.pk, by="user:bob").task.status == "cancelled"
    with one_change():
        drop(lock_task(late.pk), Reason.QUEUE_TIMEOUT)
    child.refresh_from_db()
    assert (child.status, child.status_reason) == ("cancelled", "parent_cancelled")
    for task in (unwanted, late):
        task.refresh_from_db()
        assert task.finished_at == task.started_at
    assert Run.objects.get(task=lost).finished_at == Run.objects.get(task=lost).started_at
