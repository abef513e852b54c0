"""Lost workers, poison, planned stops: what runs again by itself, and what never does."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db.models import F
from django.db.models.functions import Now

from tasks.models import Event, Inflight, Run, Task, TaskType, Worker
from tasks.outcomes import Outcome
from tasks.services.cancel import cancel
from tasks.services.finish import finish
from tasks.services.lose import Expired, expired_runs, lose, lose_runs_of
from tasks.states import RunStatus
from tenants.models import Tenant
from tests.tasks.api.work import WORKER, dispatched, ended, running, submitted


def lose_run(task: Task, *, worker_seen: str) -> Task:
    """Let the lease of a new run end; its worker was seen "after" that, "long before", or is "late"."""
    running(task)
    overdue = 60 if worker_seen == "long before" else 1
    Inflight.objects.filter(pk=task.pk).update(lease_until=Now() - timedelta(seconds=overdue))
    seen = {"after": Now(), "late": Now() - timedelta(seconds=2), "long before": Now() - timedelta(90)}
    Worker.objects.filter(pk=WORKER).update(status="alive", seen_at=seen[worker_seen])
    for each in expired_runs():
        lose(each)
    task.refresh_from_db()
    return task


def test_a_lost_idempotent_task_is_in_line_again_at_once(tenant: Tenant) -> None:
    task = lose_run(submitted(tenant), worker_seen="long before")
    assert (task.status, task.status_reason, task.losses) == ("queued", "lost", 1)
    assert (task.failures, task.crashes, task.next_retry_at) == (0, 0, None)
    assert Run.objects.get(task=task).status == "lost"


def test_what_waits_in_line_or_for_its_worker_has_no_lease(tenant: Tenant) -> None:
    in_line, published = submitted(tenant), submitted(tenant)
    row = dispatched(published)
    long_ago = Now() - timedelta(days=1)
    Inflight.objects.update(lease_until=long_ago, worker=WORKER)
    Worker.objects.update(status="gone", seen_at=long_ago)
    assert expired_runs() == []
    assert lose(Expired(published.pk, row.epoch)) is None
    assert lose_runs_of(WORKER) == 0
    for task in (in_line, published):
        task.refresh_from_db()
        assert (task.status, task.losses, task.attempt) == ("queued", 0, 0)


def test_a_lost_task_that_is_not_idempotent_never_starts_again_by_itself(tenant: Tenant) -> None:
    task = lose_run(submitted(tenant, idempotent=False, max_retries=9), worker_seen="after")
    assert (task.status, task.status_reason, task.attempt) == ("failed", "lost", 1)


def test_poison_starts_exactly_twice(tenant: Tenant) -> None:
    task = submitted(tenant, max_retries=9)
    for status in ("queued", "failed"):
        running(task)
        assert lose_runs_of(WORKER, supervisor=4711, crashed=True) == 1
        task.refresh_from_db()
        assert task.status == status
    assert (task.status_reason, task.attempt, task.crashes) == ("poison", 2, 2)


@pytest.mark.parametrize("worker_seen", ["long before", "after"])
def test_the_loss_of_machines_or_of_the_database_is_nobodys_fault_and_bounded_at_three(
    tenant: Tenant, worker_seen: str
) -> None:
    # "after": the worker outlived an outage in which its supervisors could not keep their leases.
    task = submitted(tenant)
    assert lose_run(task, worker_seen=worker_seen).status == "queued"
    assert lose_run(task, worker_seen=worker_seen).status == "queued"
    assert lose_run(task, worker_seen=worker_seen).status == "failed"
    assert (task.status_reason, task.attempt, task.crashes) == ("lost", 3, 0)


def test_whose_fault_a_loss_is_waits_for_the_machines_next_report(tenant: Tenant) -> None:
    task = lose_run(submitted(tenant), worker_seen="late")
    assert task.status == "running"
    lose_runs_of(WORKER, supervisor=4711, crashed=True)
    task.refresh_from_db()
    assert (task.status, task.crashes) == ("queued", 1)


def test_a_machine_that_has_reported_and_told_of_no_death_is_not_waited_for(tenant: Tenant) -> None:
    task = lose_run(submitted(tenant), worker_seen="late")
    assert task.status == "running"
    Worker.objects.filter(pk=WORKER).update(seen_at=Now())
    for each in expired_runs():
        lose(each)
    task.refresh_from_db()
    assert (task.status, task.crashes) == ("queued", 0)


@pytest.mark.parametrize(
    ("column", "status"), [("on_loss", RunStatus.LOST), ("on_shutdown", RunStatus.DROPPED)]
)
def test_a_type_may_drop_what_was_lost_or_stopped(
    tenant: Tenant, column: str, status: RunStatus
) -> None:
    TaskType.objects.filter(name="test.dummy").update(**{column: "drop"})
    task = ended(submitted(tenant), status)
    assert task.status == "dropped"
    assert task.cancel_requested_at is None
    last = Event.objects.filter(task_id=task.pk, kind="state").latest("seq")
    assert last.data["started"] is True


def test_a_planned_stop_charges_nothing_and_five_of_them_end_in_success(tenant: Tenant) -> None:
    task = submitted(tenant, max_retries=0)
    for _ in range(5):
        ended(task, RunStatus.DROPPED)
    ended(task)
    assert (task.status, task.restarts, task.failures) == ("completed", 5, 0)


def test_a_planned_stop_of_what_cannot_run_again_fails_as_interrupted(tenant: Tenant) -> None:
    task = ended(submitted(tenant, idempotent=False), RunStatus.DROPPED)
    assert (task.status, task.status_reason) == ("failed", "interrupted")
    saved = ended(submitted(tenant, idempotent=False), RunStatus.DROPPED, checkpointed=True)
    assert saved.status == "queued"


@pytest.mark.parametrize("status", [RunStatus.LOST, RunStatus.DROPPED, RunStatus.PREEMPTED])
def test_a_run_that_goes_away_after_a_cancel_leaves_a_cancelled_task(
    tenant: Tenant, status: RunStatus
) -> None:
    task = submitted(tenant)
    claimed = running(task)
    cancel(task.pk, by="user:bob")
    finish(task.pk, claimed.epoch, Outcome(status))
    task.refresh_from_db()
    assert (task.status, task.status_reason) == ("cancelled", "user_cancelled")


def test_leases_are_measured_by_the_databases_clock(tenant: Tenant) -> None:
    task = submitted(tenant)
    running(task)
    row = Inflight.objects.filter(pk=task.pk)
    assert row.filter(lease_until__gt=Now() + timedelta(seconds=40)).exists()
    row.update(lease_until=F("lease_until") - timedelta(seconds=46))
    assert [each.task_id for each in expired_runs()] == [task.pk]
