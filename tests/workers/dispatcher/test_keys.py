"""Keys: how many tasks with one key run at once, who waits, and in which order they come in."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from django.db import connection, transaction

from tasks.errors import KeyConflict
from tasks.models import Backlog, Inflight, KeyHolder, Leader, Parked, Ready, Task
from tasks.outcomes import Outcome
from tasks.selectors.waiting import waiting_for
from tasks.services.cancel import cancel
from tasks.services.finish import finish
from tasks.services.release import due
from tasks.services.retry import retry
from tasks.states import RunStatus
from tenants.models import Limit, Tenant
from tests.tasks.api.work import ended, publish_types, running, start_platform, submitted
from workers.dispatcher.keys import let_in
from workers.dispatcher.leader import Leadership


@pytest.fixture
def leader(tenant: Tenant) -> int:
    Leader.objects.filter(name="dispatcher").update(renewed_at="2020-01-01T00:00:00Z")
    leadership = Leadership("dispatcher")
    assert leadership.acquire()
    assert leadership.epoch is not None
    return leadership.epoch


def queued(tenant: Tenant, **options: object) -> Task:
    return submitted(tenant, key="deploy", key_policy="queue", **options)


def somebody_waits_for_a_lock() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT 1 FROM pg_stat_activity"
            " WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        return cursor.fetchone() is not None


def in_line() -> list[Task]:
    return list(Task.objects.filter(pk__in=Ready.objects.values("task_id")).order_by("ordinal"))


def test_the_second_waits_for_the_key_and_starts_when_the_first_has_ended(
    tenant: Tenant, leader: int
) -> None:
    first, second, third = queued(tenant), queued(tenant), queued(tenant)
    assert in_line() == [first]
    assert (waiting_for(first) or {})["reason"] == "dispatch"
    assert waiting_for(second) == {
        "reason": "key",
        "detail": f"Task {first.pk} has the key deploy until it has ended.",
        "position": 0,
    }
    assert (waiting_for(third) or {})["position"] == 1
    run = running(first)
    assert let_in(leader) == set()
    finish(first.pk, run.epoch, Outcome(RunStatus.COMPLETED))
    assert let_in(leader) == {("normal", tenant.pk)}
    assert in_line() == [second]
    assert let_in(leader) == set()
    ended(second)
    let_in(leader)
    assert in_line() == [third]


def test_more_urgent_tasks_get_the_key_first(tenant: Tenant, leader: int) -> None:
    first = queued(tenant)
    queued(tenant)
    urgent = queued(tenant, priority=5)
    ended(first)
    let_in(leader)
    assert in_line() == [urgent]


def test_a_task_that_waits_for_its_retry_keeps_the_key(tenant: Tenant, leader: int) -> None:
    first = queued(tenant, max_retries=1, retry={"delay": 0, "jitter": 0})
    queued(tenant)
    assert ended(first, RunStatus.FAILED).status == "retry_wait"
    assert let_in(leader) == set()
    assert due(first.pk, "retry")
    assert in_line() == [first]
    assert let_in(leader) == set()


def test_who_is_cancelled_while_it_waits_is_passed_over(tenant: Tenant, leader: int) -> None:
    first, second, third = queued(tenant), queued(tenant), queued(tenant)
    cancel(second.pk, by="user:bob")
    cancel(first.pk, by="user:bob")
    assert not KeyHolder.objects.exists()
    let_in(leader)
    assert in_line() == [third]


def test_nobody_goes_before_those_who_wait_already(tenant: Tenant, leader: int) -> None:
    first, second = queued(tenant), queued(tenant)
    ended(first)
    third = queued(tenant)
    assert Parked.objects.filter(pk=third.pk).exists()
    let_in(leader)
    assert in_line() == [second]


def test_a_former_leader_lets_nobody_in(tenant: Tenant, leader: int) -> None:
    first = queued(tenant)
    queued(tenant)
    ended(first)
    assert let_in(leader - 1) == set()
    assert in_line() == []


def test_a_retried_task_waits_for_its_key_again(tenant: Tenant, leader: int) -> None:
    first = queued(tenant, max_retries=0)
    assert ended(first, RunStatus.FAILED).status == "failed"
    second = queued(tenant)
    running(second)
    retry(first.pk, by="user:bob")
    assert Parked.objects.get(pk=first.pk).key == "deploy"
    assert let_in(leader) == set()


@pytest.mark.parametrize(("allowed", "at_once"), [(0, 0), (2, 2), (3, 3)])
def test_a_tenant_may_run_none_or_several_with_one_key(
    tenant: Tenant, leader: int, allowed: int, at_once: int
) -> None:
    limit = Limit.objects.create(tenant=tenant, queue="", running_per_key=allowed)
    tasks = [queued(tenant) for _ in range(4)]
    let_in(leader)
    assert in_line() == tasks[:at_once]
    assert (waiting_for(tasks[3]) or {})["reason"] == "key"
    Limit.objects.filter(pk=limit.pk).update(running_per_key=4)
    let_in(leader)
    assert in_line() == tasks


def test_rejecting_begins_where_the_slots_end(tenant: Tenant) -> None:
    Limit.objects.create(tenant=tenant, queue="", running_per_key=2)
    first = submitted(tenant, key="deploy")
    submitted(tenant, key="deploy")
    with pytest.raises(KeyConflict) as conflict:
        submitted(tenant, key="deploy")
    assert conflict.value.extra["task"] == str(first.pk)


def test_replacing_cancels_all_before_it_and_waits_for_what_still_runs(
    tenant: Tenant, leader: int
) -> None:
    first, second = queued(tenant), queued(tenant)
    run = running(first)
    third = submitted(tenant, key="deploy", key_policy="replace")
    second.refresh_from_db()
    assert (second.status, second.status_reason) == ("cancelled", "replaced")
    assert Inflight.objects.get(pk=first.pk).ask == "cancel"
    assert let_in(leader) == set()
    finish(first.pk, run.epoch, Outcome(RunStatus.CANCELLED))
    first.refresh_from_db()
    assert (first.status, first.status_reason) == ("cancelled", "replaced")
    let_in(leader)
    assert in_line() == [third]


def test_tasks_that_wait_for_a_key_count_as_queued(tenant: Tenant, leader: int) -> None:
    Limit.objects.create(tenant=tenant, queue="", queued=10)
    tasks = [queued(tenant) for _ in range(3)]
    assert Backlog.objects.get(queue="").queued == 3
    cancel(tasks[2].pk, by="user:bob")
    ended(tasks[0])
    let_in(leader)
    assert Ready.objects.count() + Parked.objects.count() == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("policy", "accepted"), [("reject", 1), ("queue", 12), ("replace", 12)])
def test_of_those_who_submit_at_once_one_has_the_key(policy: str, accepted: int) -> None:
    publish_types()
    start_platform()
    tenant = Tenant.objects.create(slug="crowd", name="Crowd")
    together = threading.Barrier(12)
    results: list[str] = []

    def client() -> None:
        together.wait(30)
        try:
            submitted(tenant, key="deploy", key_policy=policy)
            results.append("accepted")
        except KeyConflict:
            results.append("refused")
        finally:
            connection.close()

    threads = [threading.Thread(target=client) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (results.count("accepted"), len(results)) == (accepted, 12)
    assert (Ready.objects.count(), KeyHolder.objects.count()) == (1, 1)
    waiting = {"reject": 0, "queue": 11, "replace": 0}[policy]
    assert Parked.objects.filter(reason="key").count() == waiting


@pytest.mark.django_db(transaction=True)
def test_a_submission_and_the_dispatcher_never_give_one_key_twice(
    eventually: Callable[..., None],
) -> None:
    """A submission has taken the key and not committed when the dispatcher lets somebody else in."""
    publish_types()
    start_platform()
    tenant = Tenant.objects.create(slug="crowd", name="Crowd")
    waiting = queued(tenant)
    # As a task that came into line beside submissions, whose time had come.
    KeyHolder.objects.all().delete()
    row = Ready.objects.get(pk=waiting.pk)
    row.delete()
    holding, go_on = threading.Event(), threading.Event()

    def submitting() -> None:
        try:
            with transaction.atomic():
                submitted(tenant, key="deploy", key_policy="queue")
                holding.set()
                assert go_on.wait(30)
        finally:
            connection.close()

    thread = threading.Thread(target=submitting)
    thread.start()
    assert holding.wait(30)
    Parked.objects.create(
        task_id=waiting.pk,
        queue="normal",
        tenant_id=tenant.pk,
        rank=0,
        ordinal=row.ordinal,
        epoch=1,
        type_id=row.type_id,
        reason="key",
        key="deploy",
    )
    let: list[object] = []

    def letting() -> None:
        try:
            let.append(let_in(1))
        finally:
            connection.close()

    other = threading.Thread(target=letting)
    other.start()
    eventually(somebody_waits_for_a_lock)
    go_on.set()
    for each in (thread, other):
        each.join(30)
    assert let == [set()]
    assert (Ready.objects.count(), KeyHolder.objects.count(), Parked.objects.count()) == (1, 1, 1)
