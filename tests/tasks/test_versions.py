"""Old and new workers beside each other: a task waits for one that has at least its type's version."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Any

from django.db import connection
from django.db.models.functions import Now

from tasks.models import Inflight, Parked, Ready, Task, TaskType, Worker
from tasks.selectors.ability import capacities
from tasks.selectors.waiting import waiting_for
from tasks.services.claim import Claimed, claim
from tasks.services.workers import task_types_publish, worker_register
from tenants.models import Tenant
from tests.tasks.api.work import DESCRIBED, TOKEN, dispatched, submitted
from tests.tenants.callers import World
from tests.workers.dispatcher.returning import unpark
from workers.dispatcher import parked, store

OLD, NEW = uuid.UUID(int=8), uuid.UUID(int=77)


def publish(version: int, **changes: Any) -> None:
    task_types_publish({"test.dummy": {**DESCRIBED, "version": version, **changes}})


def register(
    worker: uuid.UUID, version: int, queue: str = "normal", handler: str = "nowhere:nothing"
) -> None:
    worker_register(
        worker_id=worker,
        name=f"{queue}-{version}",
        queue=queue,
        machine="m1",
        host="h1",
        pid=1,
        slots=1,
        isolation="process",
        version="1",
        types={"test.dummy": version},
        handlers={"test.dummy": handler},
    )


def take(task: Task, worker: uuid.UUID, row: Inflight | None = None) -> Claimed | None:
    row = row or Inflight.objects.get(pk=task.pk)
    where: dict[str, Any] = {"machine": "m1", "isolation": "process", "pid": 1, "queue": "normal"}
    return claim(task.pk, row.epoch, TOKEN, worker=worker, **where)


def now() -> datetime:
    """The database's time, also within a transaction."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        moment: datetime = cursor.fetchone()[0]
    return moment


def test_a_task_remembers_the_version_that_it_was_submitted_against(tenant: Tenant) -> None:
    before = submitted(tenant)
    publish(2)
    after = submitted(tenant)
    assert (before.type_version, after.type_version) == (1, 2)
    assert [Ready.objects.get(pk=task.pk).type_version for task in (before, after)] == [1, 2]


def test_a_task_for_newer_workers_waits_and_says_for_what(acme: World) -> None:
    publish(2)
    task = submitted(acme.acme)
    told = waiting_for(task) or {}
    assert told["reason"] == "no_worker"
    assert told["detail"] == (
        "The workers of the normal pool run test.dummy in version 1 at most; this task needs version 2."
    )
    body = {"type": "test.dummy", "dry_run": True}
    dry = acme.token().post("/api/v1/tenants/acme/tasks", body).json()
    assert (dry["would"], dry["waiting_for"]["detail"]) == ("wait", told["detail"])
    register(NEW, 2)
    assert (waiting_for(task) or {})["reason"] == "dispatch"


def test_an_older_worker_of_the_pool_cannot_claim_it_and_a_newer_one_can(tenant: Tenant) -> None:
    publish(2)
    task = submitted(tenant)
    row = dispatched(task)
    register(OLD, 1)
    register(NEW, 2)
    Inflight.objects.filter(pk=task.pk).update(lease_until=Now() + timedelta(days=1))
    assert not take(task, OLD, row)
    # It is to be published again at once, not when the message would have been given up.
    assert store.overdue_by_queue(10) == {"normal": [(task.pk, row.epoch)]}
    assert take(task, NEW, row)


def test_a_worker_that_cannot_run_it_is_asked_less_often_each_time(tenant: Tenant) -> None:
    publish(2)
    task = submitted(tenant)
    row = dispatched(task)
    register(OLD, 1)
    register(NEW, 2)
    for publishes, seconds in ((1, 0.0), (2, 0.25), (5, 1.0), (21, 5.0), (32767, 5.0)):
        Inflight.objects.filter(pk=task.pk).update(publishes=publishes)
        wait = timedelta(seconds=seconds)
        earliest = now() + wait
        assert not take(task, OLD, row)
        assert earliest <= Inflight.objects.get(pk=task.pk).lease_until <= now() + wait
    # Its message is out no longer, but who has it all the same may claim.
    assert take(task, NEW, row)


def test_an_older_task_runs_on_a_newer_worker(tenant: Tenant) -> None:
    task = submitted(tenant)
    publish(2)
    dispatched(task)
    register(NEW, 2)
    assert take(task, NEW)


def test_each_worker_runs_the_handler_that_it_has_itself(tenant: Tenant) -> None:
    tasks = [submitted(tenant) for _ in range(2)]
    register(OLD, 1, handler="before:handle")
    publish(2, handler="moved.elsewhere:handle")
    register(NEW, 2, handler="moved.elsewhere:handle")
    taken = [
        take(task, worker, dispatched(task)) for task, worker in zip(tasks, (OLD, NEW), strict=True)
    ]
    assert [run.handler for run in taken if run] == ["before:handle", "moved.elsewhere:handle"]


def test_a_newer_schema_does_not_refuse_what_was_accepted_before_it(tenant: Tenant) -> None:
    before = submitted(tenant)
    stricter = {"type": "object", "required": ["seconds"]}
    publish(2, params_schema=stricter)
    after = submitted(tenant, params={"seconds": 1})
    register(NEW, 2)
    taken = [take(task, NEW, dispatched(task)) for task in (before, after)]
    assert [run.params_schema for run in taken if run] == [None, stricter]


def test_params_are_checked_again_only_where_the_schema_may_be_another(tenant: Tenant) -> None:
    """A type that changes without a new version, and one that a starting worker describes anew."""
    publish(2)
    TaskType.objects.update(updated_at=Now() - timedelta(hours=1))
    unchanged, changed = submitted(tenant), submitted(tenant)
    register(NEW, 2)
    publish(2)
    first = take(unchanged, NEW, dispatched(unchanged))
    stricter = {"type": "object", "required": ["seconds"]}
    publish(2, params_schema=stricter)
    second = take(changed, NEW, dispatched(changed))
    assert first is not None
    assert second is not None
    assert (first.params_schema, second.params_schema) == (None, stricter)


def test_what_the_dispatcher_may_send_is_the_same_rule(tenant: Tenant) -> None:
    type_id = TaskType.objects.get(name="test.dummy").pk
    assert capacities()["normal"].can_run(type_id, 1)
    assert not capacities()["normal"].can_run(type_id, 2)
    register(NEW, 3)
    assert capacities()["normal"].can_run(type_id, 2)
    assert not capacities()["batch"].can_run(type_id, 2)
    Worker.objects.filter(pk=NEW).update(status="draining")
    assert not capacities()["normal"].can_run(type_id, 2)


def test_parked_tasks_come_back_as_far_as_their_version_is_there(tenant: Tenant) -> None:
    old = submitted(tenant)
    publish(2)
    new = submitted(tenant)
    parked.park(1, [old.pk, new.pk], "no_worker")
    type_id = TaskType.objects.get(name="test.dummy").pk
    unpark(1, "normal", {type_id: 1})
    assert list(Ready.objects.values_list("task_id", flat=True)) == [old.pk]
    assert Parked.objects.get().type_version == 2
    unpark(1, "normal", {type_id: 2})
    assert Ready.objects.get(pk=new.pk).type_version == 2


def test_an_older_worker_does_not_take_back_what_tasks_are_submitted_against(tenant: Tenant) -> None:
    publish(2, title="new")
    publish(1, title="old")
    assert TaskType.objects.get(name="test.dummy").title == "new"
    publish(3, title="newest")
    assert TaskType.objects.get(name="test.dummy").version == 3


def test_workers_of_the_release_before_count_as_version_one(tenant: Tenant) -> None:
    Worker.objects.filter(queue="normal").update(types=["test.dummy"])
    type_id = TaskType.objects.get(name="test.dummy").pk
    assert capacities()["normal"].types == {type_id: 1}
