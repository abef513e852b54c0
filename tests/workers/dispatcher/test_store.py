"""What the dispatcher does to the tables: fenced, once, and only what is asked for."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.conf import settings
from django.db.models.functions import Now

from tasks.clock import database_now
from tasks.models import Backlog, Inflight, Leader, Parked, Ready, Task, TaskType, Worker
from tasks.selectors.ability import capacities
from tasks.services.claim import claim
from tenants.models import Limit, Tenant
from tests.tasks.api.work import WORKER, running, submitted
from tests.workers.dispatcher.returning import unpark
from workers.dispatcher import parked, store
from workers.dispatcher.lanes import FRONT, Candidate
from workers.dispatcher.leader import Leadership

WHO = {"worker": WORKER, "machine": "m1", "isolation": "process", "pid": 1}


@pytest.fixture
def leader(tenant: Tenant) -> int:
    Leader.objects.filter(name="dispatcher").update(renewed_at="2020-01-01T00:00:00Z")
    leadership = Leadership("dispatcher")
    assert leadership.acquire()
    assert leadership.epoch is not None
    return leadership.epoch


def candidates(*tasks: Task) -> list[Candidate]:
    """Return the tasks as they stand in line, which all of them must."""
    lanes = store.heads("normal", {task.tenant_id: FRONT for task in tasks}, 100).values()
    in_line = {candidate.task_id: candidate for lane in lanes for candidate in lane}
    return [in_line[task.pk] for task in tasks]


def dispatch(leader: int, *tasks: Task) -> list[store.Doorbell]:
    return store.dispatch(leader, store.limits_revision(), candidates(*tasks))


def overdue() -> None:
    Inflight.objects.update(lease_until=Now() - timedelta(seconds=1))


def test_a_dispatched_task_leaves_the_line_and_can_be_claimed(tenant: Tenant, leader: int) -> None:
    task = submitted(tenant)
    (bell,) = dispatch(leader, task)
    assert not Ready.objects.exists()
    assert (bell.task_id, bell.queue, bell.epoch) == (task.pk, "normal", 1)
    assert claim(task.pk, bell.epoch, bell.token, queue="normal", **WHO) is not None  # type: ignore[arg-type]


def test_a_task_is_dispatched_once_whoever_asks_again(tenant: Tenant, leader: int) -> None:
    seen = candidates(submitted(tenant))
    assert len(store.dispatch(leader, store.limits_revision(), seen)) == 1
    assert store.dispatch(leader, store.limits_revision(), seen) == []


def test_a_former_leader_dispatches_nothing(tenant: Tenant, leader: int) -> None:
    task = submitted(tenant)
    assert dispatch(leader - 1, task) == []
    assert Ready.objects.filter(pk=task.pk).exists()


def test_a_decision_under_old_limits_is_void(tenant: Tenant, leader: int) -> None:
    task = submitted(tenant)
    before = store.limits_revision()
    Limit.objects.create(tenant=tenant, queue="", running=1)
    assert store.limits_revision() != before
    assert store.dispatch(leader, before, candidates(task)) == []
    assert len(dispatch(leader, task)) == 1


def test_pausing_a_tenant_is_a_change_of_limits(tenant: Tenant, leader: int) -> None:
    before = store.limits_revision()
    Tenant.objects.filter(pk=tenant.pk).update(paused=True)
    assert store.limits_revision() != before
    assert store.tenant_limits()[tenant.pk].paused


def test_dispatching_lowers_the_counter_of_the_backlog(tenant: Tenant, leader: int) -> None:
    Limit.objects.create(tenant=tenant, queue="normal", queued=5)
    tasks = [submitted(tenant) for _ in range(3)]
    dispatch(leader, *tasks[:2])
    assert Backlog.objects.get(tenant_id=tenant.pk, queue="normal").queued == 1


def test_lanes_with_work_are_found_without_reading_their_tasks(tenant: Tenant) -> None:
    other = Tenant.objects.create(slug="other", name="Other")
    for each in (tenant, other, tenant, tenant):
        submitted(each)
    assert store.lanes_with_work("normal") == sorted([tenant.pk, other.pk])
    assert store.lanes_with_work("batch") == []


def test_the_head_of_a_lane_is_its_most_urgent_oldest_task(tenant: Tenant) -> None:
    tasks = [submitted(tenant, priority=priority) for priority in (0, 1, 1, 0)]
    first = store.heads("normal", {tenant.pk: FRONT}, 3)[tenant.pk]
    assert [each.task_id for each in first] == [tasks[1].pk, tasks[2].pk, tasks[0].pk]


def test_a_lane_is_read_on_behind_any_of_its_tasks(tenant: Tenant) -> None:
    tasks = [submitted(tenant, priority=priority) for priority in (0, 1, -1, 0)]
    whole = store.heads("normal", {tenant.pk: FRONT}, 9)[tenant.pk]
    assert [each.task_id for each in whole] == [tasks[n].pk for n in (1, 0, 3, 2)]
    for number, each in enumerate(whole):
        behind = {tenant.pk: (each.rank, each.ordinal)}
        assert store.heads("normal", behind, 2)[tenant.pk] == whole[number + 1 : number + 3]


def test_an_unclaimed_message_is_void_once_it_was_published_again(tenant: Tenant, leader: int) -> None:
    task = submitted(tenant)
    (first,) = dispatch(leader, task)
    overdue()
    late = store.overdue_by_queue(10)["normal"]
    assert (store.unclaimed("normal"), late) == (1, [(task.pk, 1)])
    (second,) = store.republish(leader, late)
    assert (second.epoch, second.token != first.token) == (2, True)
    assert claim(task.pk, first.epoch, first.token, queue="normal", **WHO) is None  # type: ignore[arg-type]
    assert claim(task.pk, second.epoch, second.token, queue="normal", **WHO) is not None  # type: ignore[arg-type]
    assert Task.objects.get(pk=task.pk).attempt == 1


def test_a_slow_worker_gets_more_time_with_each_publishing(tenant: Tenant, leader: int) -> None:
    task = submitted(tenant)
    dispatch(leader, task)
    given = []
    for _ in range(5):
        overdue()
        store.republish(leader, store.overdue_by_queue(10)["normal"])
        until = Inflight.objects.get(pk=task.pk).lease_until
        given.append(
            round((until - database_now()).total_seconds() / settings.SWITCHYARD.dispatch_timeout)
        )
    assert given == [2, 4, 8, 8, 8]


@pytest.mark.parametrize("before", [1023, 1024, 32767])
def test_a_message_may_be_published_any_number_of_times(
    tenant: Tenant, leader: int, before: int
) -> None:
    task = submitted(tenant)
    dispatch(leader, task)
    Inflight.objects.update(publishes=before)
    overdue()
    assert len(store.republish(leader, store.overdue_by_queue(10)["normal"])) == 1
    row = Inflight.objects.get(pk=task.pk)
    assert row.publishes == min(before + 1, 32767)
    assert row.lease_until > database_now()


def test_a_claimed_task_is_never_published_again(tenant: Tenant, leader: int) -> None:
    task = submitted(tenant)
    running(task)
    overdue()
    assert (store.unclaimed("normal"), store.overdue_by_queue(10)) == (0, {})
    assert store.republish(leader, [(task.pk, 1)]) == []


def test_tasks_of_a_type_without_worker_are_parked_and_come_back(tenant: Tenant, leader: int) -> None:
    task = submitted(tenant)
    parked.park(leader, [task.pk], "no_worker")
    assert not Ready.objects.exists()
    assert Parked.objects.get(pk=task.pk).reason == "no_worker"
    type_id = TaskType.objects.get(name="test.dummy").pk
    assert unpark(leader, "normal", {type_id + 1000: 1}) == set()
    assert unpark(leader, "normal", {type_id: 1}) == {tenant.pk}
    assert Ready.objects.get(pk=task.pk).epoch == 1


def test_only_workers_that_were_seen_lately_count(tenant: Tenant) -> None:
    assert capacities()["normal"].slots == 2
    Worker.objects.filter(queue="normal").update(seen_at=Now() - timedelta(minutes=1))
    assert "normal" not in capacities()
    Worker.objects.filter(queue="batch").update(status="draining")
    assert "batch" not in capacities()


def test_what_a_draining_worker_runs_takes_no_slot_from_the_others(tenant: Tenant) -> None:
    others = Worker.objects.get(queue="normal").pk
    Worker.objects.filter(pk=WORKER).update(queue="normal", status="draining")
    assert capacities()["normal"].slots == 2
    running(submitted(tenant))
    found = capacities()["normal"]
    assert (found.slots, found.slots - len(store.inflight())) == (3, 2)
    assert found.types
    Worker.objects.filter(pk=others).update(status="gone")
    found = capacities()["normal"]
    assert (found.slots, found.types) == (1, {})


def test_one_leads_until_it_resigns_or_falls_silent(tenant: Tenant) -> None:
    Leader.objects.filter(name="dispatcher").update(renewed_at="2020-01-01T00:00:00Z")
    one, two = Leadership("dispatcher"), Leadership("dispatcher")
    assert one.acquire()
    assert not two.acquire()
    one.resign()
    assert two.acquire()
    assert not one.renew()
    assert two.renew()
