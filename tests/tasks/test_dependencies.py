"""Graphs of tasks: how an end passes through them, early or late, and how a retry undoes it."""

from __future__ import annotations

import time
import uuid
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone

from tasks.errors import BadDependency, Moved
from tasks.models import Backlog, Dependency, Event, Later, Parked, Ready, Task
from tasks.outcomes import Outcome
from tasks.services.cancel import cancel
from tasks.services.finish import finish
from tasks.services.ready import enter_many, one_change, recount_backlog
from tasks.services.release import due
from tasks.services.retry import retry
from tasks.states import RunStatus
from tenants.models import Limit, Tenant
from tests.questions import questions
from tests.tasks.api.work import ended, failed, publish_types, running, start_platform, submitted
from tests.tenants.callers import World


def state(task: Task) -> tuple[str, str | None]:
    task.refresh_from_db()
    return task.status, task.status_reason


def dropped(task: Task) -> Task:
    """Let a task's queue timeout pass."""
    Later.objects.filter(task_id=task.pk).update(due_at=timezone.now() - timedelta(seconds=1))
    assert due(task.pk, "queue_timeout")
    return task


ENDS: dict[str, Any] = {
    "parent_failed": failed,
    "parent_cancelled": lambda task: cancel(task.pk, by="user:bob"),
    "parent_dropped": dropped,
}


@pytest.mark.parametrize("late", [False, True], ids=["early", "late"])
@pytest.mark.parametrize("reason", sorted(ENDS))
def test_a_child_meets_the_same_end_early_or_late(tenant: Tenant, reason: str, late: bool) -> None:
    parent = submitted(tenant, queue_timeout=500)
    family: list[Task] = []

    def have_children() -> None:
        family.append(submitted(tenant, depends_on=(parent.pk,)))
        family.append(submitted(tenant, depends_on=(family[0].pk,)))
        family.append(submitted(tenant, depends_on=(parent.pk,), on_parent_failure="run"))
        start = timezone.now() + timedelta(hours=1)
        family.append(submitted(tenant, depends_on=(parent.pk,), scheduled_for=start))

    if not late:
        have_children()
    ENDS[reason](parent)
    if late:
        have_children()
    child, grandchild, anyway, scheduled = family
    assert state(child) == ("cancelled", reason)
    assert state(grandchild) == ("cancelled", "parent_cancelled")
    assert state(anyway) == ("queued", None)
    assert state(scheduled) == ("cancelled", reason)
    assert not Later.objects.filter(task_id__in=[child.pk, scheduled.pk]).exists()
    assert child.started_at is None
    told = Event.objects.filter(task_id=child.pk).order_by("seq").values_list("data__status", flat=True)
    assert list(told) == ["blocked", "cancelled"]


def test_a_child_that_need_not_wait_any_more_names_its_parent_all_the_same(tenant: Tenant) -> None:
    parent = ended(submitted(tenant))
    child = submitted(tenant, depends_on=(parent.pk,))
    assert state(child) == ("queued", None)
    assert Dependency.objects.get(child=child).parent_id == parent.pk


def test_a_diamond_starts_its_foot_when_both_sides_are_done(tenant: Tenant) -> None:
    top = submitted(tenant)
    left, right = (submitted(tenant, depends_on=(top.pk,)) for _ in range(2))
    foot = submitted(tenant, depends_on=(left.pk, right.pk))
    ended(top)
    for side in (left, right):
        assert state(foot) == ("blocked", None)
        side.refresh_from_db()
        ended(side)
    assert state(foot) == ("queued", None)


def test_a_diamond_falls_whole_and_comes_back_whole(tenant: Tenant) -> None:
    top = submitted(tenant)
    left, right = (submitted(tenant, depends_on=(top.pk,)) for _ in range(2))
    foot = submitted(tenant, depends_on=(left.pk, right.pk))
    failed(top)
    assert {state(task)[0] for task in (left, right, foot)} == {"cancelled"}
    retry(top.pk, by="user:bob")
    assert {state(task)[0] for task in (left, right, foot)} == {"blocked"}
    for task in (top, left, right, foot):
        task.refresh_from_db()
        ended(task)
    assert state(foot) == ("completed", None)


def test_a_chain_of_a_thousand_falls_with_its_head(tenant: Tenant) -> None:
    head = submitted(tenant)
    second = submitted(tenant, depends_on=(head.pk,))
    columns = {field.attname: getattr(second, field.attname) for field in Task._meta.concrete_fields}
    for unique in ("id", "ordinal"):
        del columns[unique]
    links = Task.objects.bulk_create(Task(**columns) for _ in range(999))
    chain = [second, *links]
    Dependency.objects.bulk_create(
        Dependency(parent=parent, child=child) for parent, child in pairwise(chain)
    )
    began = time.monotonic()
    cancel(head.pk, by="user:bob")
    assert time.monotonic() - began < 10
    ends = Task.objects.filter(status="cancelled", status_reason="parent_cancelled")
    assert ends.count() == 1000
    last = Event.objects.get(task_id=chain[-1].pk, seq=2)
    assert last.data["parent"] == str(chain[-2].pk)


def test_the_parent_that_ended_first_is_the_reason(tenant: Tenant) -> None:
    one, two = submitted(tenant), submitted(tenant)
    cancel(two.pk, by="user:bob")
    failed(one)
    child = submitted(tenant, depends_on=(one.pk, two.pk))
    assert state(child) == ("cancelled", "parent_cancelled")
    assert Event.objects.get(task_id=child.pk, seq=2).data["parent"] == str(two.pk)


def test_two_bad_parents_must_both_be_retried(tenant: Tenant) -> None:
    one, two = submitted(tenant), submitted(tenant)
    child = submitted(tenant, depends_on=(one.pk, two.pk))
    failed(one)
    failed(two)
    retry(one.pk, by="user:bob")
    assert state(child) == ("cancelled", "parent_failed")
    retry(two.pk, by="user:bob")
    assert state(child) == ("blocked", "retried")


def test_a_retried_parent_leaves_alone_what_completed_or_what_a_user_cancelled(tenant: Tenant) -> None:
    parent = submitted(tenant)
    anyway = submitted(tenant, depends_on=(parent.pk,), on_parent_failure="run")
    unwanted = submitted(tenant, depends_on=(parent.pk,))
    below = submitted(tenant, depends_on=(unwanted.pk,))
    cancel(unwanted.pk, by="user:bob")
    failed(parent)
    anyway.refresh_from_db()
    ended(anyway)
    retry(parent.pk, by="user:bob")
    parent.refresh_from_db()
    ended(parent)
    assert state(anyway) == ("completed", None)
    assert anyway.attempt == 1
    assert state(unwanted) == ("cancelled", "user_cancelled")
    assert state(below) == ("cancelled", "parent_cancelled")


def test_a_child_that_comes_back_early_still_waits_for_its_time(tenant: Tenant) -> None:
    parent = submitted(tenant)
    start = timezone.now() + timedelta(hours=1)
    child = submitted(tenant, depends_on=(parent.pk,), scheduled_for=start)
    failed(parent)
    retry(parent.pk, by="user:bob")
    assert state(child) == ("scheduled", "retried")
    parent.refresh_from_db()
    ended(parent)
    assert state(child) == ("scheduled", "retried")
    assert Later.objects.get(task_id=child.pk, what="start").due_at == start
    assert not Ready.objects.filter(pk=child.pk).exists()


def test_a_child_whose_key_was_taken_meanwhile_stays_away(tenant: Tenant) -> None:
    parent = submitted(tenant)
    child = submitted(tenant, depends_on=(parent.pk,), key="k")
    failed(parent)
    submitted(tenant, key="k")
    retry(parent.pk, by="user:bob")
    assert state(child) == ("cancelled", "parent_failed")


def test_a_child_that_replaces_its_own_parent_does_not_wait_for_ever(tenant: Tenant) -> None:
    parent = submitted(tenant, key="k")
    child = submitted(tenant, key="k", key_policy="replace", depends_on=(parent.pk,))
    assert state(parent) == ("cancelled", "replaced")
    assert state(child) == ("cancelled", "parent_cancelled")


def test_what_cannot_be_waited_for_is_refused_at_its_place(acme: World) -> None:
    mine, foreign = submitted(acme.acme), submitted(acme.other)
    before = Task.objects.count()
    for wrong in (str(foreign.pk), str(uuid.uuid4())):
        answer = acme.token().post(
            "/api/v1/tenants/acme/tasks",
            {"type": "test.dummy", "depends_on": [str(mine.pk), str(mine.pk), wrong]},
        )
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_dependency")
        assert answer.json()["errors"][0]["pointer"] == "/depends_on/2"
        assert wrong in answer.json()["errors"][0]["detail"]
    assert Task.objects.count() == before
    with pytest.raises(BadDependency):
        submitted(acme.acme, depends_on=(foreign.pk,))


def many_children(parent: Task, count: int, **options: Any) -> list[Task]:
    """Submit one child, and store so many more that are like it."""
    first = submitted(parent.tenant, depends_on=(parent.pk,), **options)
    columns = {field.attname: getattr(first, field.attname) for field in Task._meta.concrete_fields}
    for unique in ("id", "ordinal"):
        del columns[unique]
    others = Task.objects.bulk_create(Task(**columns) for _ in range(count - 1))
    Dependency.objects.bulk_create(Dependency(parent=parent, child=child) for child in others)
    return [first, *others]


def asked_at_the_end(tenant: Tenant, children: int) -> int:
    """Return how many questions it takes to complete a task that so many wait for."""
    parent = submitted(tenant)
    many_children(parent, children)
    claimed = running(parent)
    with questions() as asked:
        finish(parent.pk, claimed.epoch, Outcome(RunStatus.COMPLETED))
    return len(asked)


@pytest.mark.django_db(transaction=True)
def test_an_end_asks_as_much_for_two_hundred_children_as_for_two() -> None:
    publish_types()
    start_platform()
    tenant = Tenant.objects.create(slug="wide", name="Wide")
    few, many = asked_at_the_end(tenant, 2), asked_at_the_end(tenant, 200)
    assert few == many <= 14
    assert Ready.objects.count() == 202


def test_many_children_start_as_one_would(tenant: Tenant) -> None:
    Limit.objects.create(tenant=tenant, queue="normal", queued=100)
    Limit.objects.create(tenant=tenant, queue="", queued=100)
    parent = submitted(tenant)
    plain = many_children(parent, 5, priority=3, queue_timeout=500)
    batch = submitted(tenant, queue="batch", depends_on=(parent.pk,))
    keyed = [submitted(tenant, depends_on=(parent.pk,), key="k", key_policy="queue") for _ in range(2)]
    other = submitted(tenant)
    waiting = submitted(tenant, depends_on=(parent.pk, other.pk))
    claimed = running(parent)
    with transaction.atomic():
        recount_backlog([(tenant.pk, ""), (tenant.pk, "normal")])
    finish(parent.pk, claimed.epoch, Outcome(RunStatus.COMPLETED))
    assert {state(task) for task in (*plain, batch, *keyed)} == {("queued", None)}
    assert state(waiting) == ("blocked", None)
    rows = {row.task_id: row for row in Ready.objects.all()}
    assert rows.keys() == {task.pk for task in (*plain, batch, keyed[0], other)}
    assert Parked.objects.get().task_id == keyed[1].pk
    for task in plain:
        task.refresh_from_db()
        row = rows[task.pk]
        assert (row.queue, row.tenant_id, row.rank, row.ordinal, row.epoch) == (
            "normal",
            tenant.pk,
            -3,
            task.ordinal,
            task.epoch + 1,
        )
        assert (row.type_version, row.preemptible) == (task.type_version, task.preemptible)
        assert task.queued_at is not None
        last = Event.objects.filter(task_id=task.pk).latest("seq")
        assert (last.seq, last.kind, last.run) == (task.last_seq, "state", None)
        assert last.data == {"status": "queued", "from": "blocked", "reason": None}
    assert Later.objects.filter(task_id=plain[0].pk, what="queue_timeout").exists()
    counters = dict(Backlog.objects.filter(tenant_id=tenant.pk).values_list("queue", "queued"))
    assert counters == {"": 9, "normal": 8}


def test_of_many_children_one_that_has_moved_undoes_the_end(tenant: Tenant) -> None:
    parent = submitted(tenant)
    children = many_children(parent, 3)
    children[1].last_seq += 1
    with pytest.raises(Moved), one_change():
        enter_many(children)
    assert {state(task)[0] for task in children} == {"blocked"}
    assert Ready.objects.get().task_id == parent.pk
