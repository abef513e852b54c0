"""Automatic retries (which errors, how often, after how long) and new lives asked for by hand."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from audit.models import AuditEntry
from tasks.errors import KeyConflict, NotRetryable, ParentsFirst, QueuedLimit
from tasks.models import Backlog, Later, Ready, Run, Task, TaskType
from tasks.outcomes import Outcome
from tasks.services.append import Checkpoint
from tasks.services.cancel import cancel
from tasks.services.finish import finish
from tasks.services.release import due
from tasks.services.retry import retry
from tasks.states import RunStatus
from tenants.models import Limit, Tenant
from tests.tasks.api.work import (
    ended,
    failed,
    publish_types,
    running,
    start_platform,
    submitted,
)
from tests.tenants.callers import World

NOW = {"delay": 0, "jitter": 0}


def fails(task: Task, code: str = "handler_error", **outcome: Any) -> Task:
    """Let one attempt fail and return the task."""
    task.refresh_from_db()
    if task.status == "retry_wait":
        Later.objects.filter(task_id=task.pk).update(due_at=timezone.now() - timedelta(seconds=1))
        assert due(task.pk, "retry")
        task.refresh_from_db()
    claimed = running(task)
    error = {"code": code, "message": "no", **({"type": "OSError"} if code == "handler_error" else {})}
    finish(task.pk, claimed.epoch, Outcome(RunStatus.FAILED, error=error, **outcome))
    task.refresh_from_db()
    return task


def test_a_task_that_fails_twice_and_then_succeeds_has_three_runs(tenant: Tenant) -> None:
    task = submitted(tenant, max_retries=3, retry=NOW)
    fails(fails(task))
    assert due(task.pk, "retry")
    task.refresh_from_db()
    ended(task)
    assert (task.status, task.failures, task.attempt) == ("completed", 2, 3)
    runs = Run.objects.filter(task=task).values_list("attempt", "status")
    assert list(runs) == [(1, "failed"), (2, "failed"), (3, "completed")]


def test_between_attempts_it_waits_as_long_as_its_back_off_says(tenant: Tenant) -> None:
    task = submitted(tenant, retry={"delay": 100, "factor": 3, "max_delay": 500, "jitter": 0.1})
    for expected in (100, 300, 500):
        before = timezone.now()
        fails(task)
        assert (task.status, task.status_reason) == ("retry_wait", "handler_error")
        assert task.next_retry_at is not None
        waits = (task.next_retry_at - before).total_seconds()
        assert expected * 0.9 - 1 <= waits <= expected * 1.1 + 1
        assert Later.objects.get(task_id=task.pk).due_at == task.next_retry_at
    assert fails(task).status == "failed"


def test_three_retries_are_four_runs_and_the_reason_says_that_they_are_used_up(tenant: Tenant) -> None:
    task = submitted(tenant, max_retries=3, retry=NOW)
    for _ in range(4):
        fails(task)
    assert (task.status, task.status_reason) == ("failed", "max_retries_exceeded")
    assert (task.failures, task.attempt) == (4, 4)
    assert (task.error or {})["type"] == "OSError"


def test_a_task_without_retries_fails_for_its_own_reason(tenant: Tenant) -> None:
    task = submitted(tenant, max_retries=0)
    assert (fails(task, "salesforce_down").status, task.status_reason) == ("failed", "handler_error")
    assert (task.error or {})["code"] == "salesforce_down"
    full = submitted(tenant, max_retries=0)
    assert fails(full, "disk_full").status_reason == "disk_full"


@pytest.mark.parametrize(
    ("policy", "code", "status"),
    [
        ({"never_on": ["bad_input"]}, "bad_input", "failed"),
        ({"never_on": ["bad_input"]}, "timeout", "retry_wait"),
        ({"never_on": ["OSError"]}, "handler_error", "failed"),
        ({"retry_on": ["rate_limited"]}, "rate_limited", "retry_wait"),
        ({"retry_on": ["rate_limited"]}, "handler_error", "failed"),
        ({"retry_on": ["OSError"]}, "handler_error", "retry_wait"),
        ({"retry_on": ["a"], "never_on": ["a"]}, "a", "failed"),
    ],
)
def test_a_policy_names_the_errors_that_are_tried_again(
    tenant: Tenant, policy: dict[str, Any], code: str, status: str
) -> None:
    task = submitted(tenant, max_retries=3, retry=policy)
    assert fails(task, code).status == status
    assert task.attempt == 1


def test_what_a_type_never_retries_is_not_retried_by_its_tasks(tenant: Tenant) -> None:
    TaskType.objects.filter(name="test.dummy").update(retry={"never_on": ["bad_input"], "delay": 7})
    task = submitted(tenant, max_retries=3, retry={"delay": 1})
    assert (task.retry["delay"], task.retry["factor"]) == (1, 2)
    assert fails(task, "bad_input").status == "failed"


def test_a_handler_has_the_last_word_on_its_error_but_not_on_how_often(tenant: Tenant) -> None:
    task = submitted(tenant, max_retries=1, retry={**NOW, "never_on": ["odd"]})
    assert fails(task, "odd", retry=True).status == "retry_wait"
    assert fails(task, "odd", retry=True).status_reason == "max_retries_exceeded"
    assert fails(submitted(tenant, max_retries=3), retry=False).attempt == 1


def test_failures_losses_restarts_and_preemptions_are_counted_apart(tenant: Tenant) -> None:
    task = submitted(tenant, max_retries=1, retry=NOW)
    for status in (RunStatus.LOST, RunStatus.DROPPED, RunStatus.PREEMPTED, RunStatus.DROPPED):
        ended(task, status)
        assert task.status == "queued"
    fails(task)
    counts = (task.failures, task.losses, task.restarts, task.preemptions)
    assert (task.status, counts) == ("retry_wait", (1, 1, 2, 1))


# -- by hand -----------------------------------------------------------------------------------------


def test_a_new_life_keeps_the_runs_and_starts_the_counts_again(tenant: Tenant) -> None:
    task = submitted(tenant, max_retries=1, retry=NOW, queue_timeout=500)
    running_with_checkpoint = running(task, Checkpoint(timezone.now(), {"step": 2}))
    error = {"code": "e", "message": "m"}
    finish(task.pk, running_with_checkpoint.epoch, Outcome(RunStatus.FAILED, error=error))
    fails(task)
    assert task.status_reason == "max_retries_exceeded"
    again = retry(task.pk, by="user:bob", reason="fixed")
    assert (again.status, again.status_reason, again.life) == ("queued", "retried", 2)
    assert (again.failures, again.error, again.started_at, again.attempt) == (0, None, None, 2)
    assert again.deadline_at is not None
    assert Later.objects.get(task_id=task.pk, what="queue_timeout").due_at == again.deadline_at
    claimed = running(again)
    assert (claimed.attempt, claimed.checkpoint) == (3, {"step": 2})


def test_a_retry_never_pushes_aside_who_has_taken_its_key(tenant: Tenant) -> None:
    old = cancel(submitted(tenant, key="k", key_policy="replace").pk, by="user:bob").task
    new = submitted(tenant, key="k", key_policy="replace")
    with pytest.raises(KeyConflict):
        retry(old.pk, by="user:bob")
    new.refresh_from_db()
    assert new.status == "queued"


def test_a_retry_of_what_waits_in_vain_names_the_parent_to_retry(tenant: Tenant) -> None:
    parent = failed(submitted(tenant))
    child = submitted(tenant, depends_on=(parent.pk,))
    with pytest.raises(ParentsFirst, match=str(parent.pk)):
        retry(child.pk, by="user:bob")
    with pytest.raises(NotRetryable):
        retry(ended(submitted(tenant)).pk, by="user:bob")


def test_a_queue_timeout_is_over_once_a_task_has_started(tenant: Tenant) -> None:
    task = ended(submitted(tenant, queue_timeout=500), RunStatus.LOST)
    Later.objects.filter(task_id=task.pk).update(due_at=timezone.now() - timedelta(seconds=1))
    assert not due(task.pk, "queue_timeout")
    task.refresh_from_db()
    assert (task.status, task.losses) == ("queued", 1)


def test_what_is_for_later_does_not_come_early_and_its_queue_timeout_counts_from_then(
    tenant: Tenant,
) -> None:
    start = timezone.now() + timedelta(hours=1)
    task = submitted(tenant, scheduled_for=start, queue_timeout=100)
    assert task.deadline_at == start + timedelta(seconds=100)
    assert not due(task.pk, "start")
    task.refresh_from_db()
    assert task.status == "scheduled"


def test_a_queue_timeout_counts_anew_in_a_new_life(tenant: Tenant) -> None:
    task = failed(submitted(tenant, queue_timeout=500))
    retry(task.pk, by="user:bob")
    Later.objects.filter(task_id=task.pk).update(due_at=timezone.now() - timedelta(seconds=1))
    assert due(task.pk, "queue_timeout")
    task.refresh_from_db()
    assert (task.status, task.status_reason) == ("dropped", "queue_timeout")


def test_a_retry_finds_its_line_full_as_a_submit_does(acme: World) -> None:
    tenant = acme.acme
    broken, other = failed(submitted(tenant)), failed(submitted(tenant, "lint.ruff"))
    waiting = submitted(tenant)
    Limit.objects.create(tenant=tenant, queue="normal", queued=1)
    path = f"/api/v1/tenants/acme/tasks/{broken.pk}/retry"
    refused = acme.token().post(path, {})
    assert (refused.status_code, refused.json()["code"]) == (429, "queued_limit")
    assert refused.json()["limit"] == "queues.normal.queued"
    assert int(refused["Retry-After"]) > 0
    broken.refresh_from_db()
    assert (broken.status, broken.life) == ("failed", 1)
    # Another line has room, and so has this one when somebody has left it.
    assert retry(other.pk, by="user:alice").status == "queued"
    cancel(waiting.pk, by="user:alice")
    assert acme.token().post(path, {}).status_code == 200
    assert Backlog.objects.get(tenant_id=tenant.pk, queue="normal").queued == 1


def test_what_does_not_enter_a_line_comes_back_though_it_is_full(tenant: Tenant) -> None:
    parent = submitted(tenant, "lint.ruff")
    child = cancel(submitted(tenant, depends_on=(parent.pk,)).pk, by="user:alice").task
    submitted(tenant)
    Limit.objects.create(tenant=tenant, queue="normal", queued=1)
    assert retry(child.pk, by="user:alice").status == "blocked"


def test_of_a_bulk_retry_so_many_come_back_as_there_is_room_for(acme: World) -> None:
    tenant = acme.acme
    broken = [failed(submitted(tenant)) for _ in range(4)]
    urgent = failed(submitted(tenant, "lint.ruff"))
    Limit.objects.create(tenant=tenant, queue="normal", queued=2)
    path = "/api/v1/tenants/acme/tasks/actions/retry"
    first = acme.token().post(path, {"filter": {}})
    assert (first.status_code, first.json()["matched"], first.json()["changed"]) == (200, 5, 3)
    assert [Task.objects.get(pk=task.pk).status for task in (*broken, urgent)] == [
        *("queued", "queued", "failed", "failed", "queued"),
    ]
    again = acme.token().post(path, {"filter": {}})
    assert (again.status_code, again.json()["code"]) == (429, "queued_limit")
    Limit.objects.update(queue="", queued=4)
    last = acme.token().post(path, {"filter": {}}).json()
    assert (last["matched"], last["changed"]) == (2, 1)
    assert AuditEntry.objects.filter(action="task.retry_many").count() == 2


@pytest.mark.django_db(transaction=True)
def test_ten_retries_at_once_never_get_past_a_queued_limit() -> None:
    publish_types()
    start_platform()
    tenant = Tenant.objects.create(slug="acme", name="Acme")
    broken = [failed(submitted(tenant)) for _ in range(10)]
    Limit.objects.create(tenant=tenant, queue="", queued=3)
    line = Barrier(10)

    def again(task: Task) -> bool:
        try:
            line.wait()
            retry(task.pk, by="user:alice")
        except QueuedLimit:
            return False
        finally:
            connection.close()
        return True

    with ThreadPoolExecutor(10) as pool:
        done = list(pool.map(again, broken))
    assert sum(done) == 3
    assert Task.objects.filter(status="queued").count() == Ready.objects.count() == 3
    assert Backlog.objects.get(tenant_id=tenant.pk, queue="").queued == 3
