"""Tasks in the Django admin: everything to look at, nothing to edit, three actions."""

from __future__ import annotations

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from audit.models import AuditEntry
from tasks.models import Estimate, Route, Task, TaskType
from tenants.models import Limit
from tests.tasks.api.work import ended, failed, publish_types, running, start_platform, submitted
from tests.tenants.callers import (
    World,
    lasting_world,
    the_trail_may_be_emptied_between_tests,
    world,
)

__all__ = ["lasting_world", "the_trail_may_be_emptied_between_tests", "world"]

LIST = "/admin/tasks/task/"
MODELS = sorted(
    model._meta.model_name or "" for model in admin.site._registry if model._meta.app_label == "tasks"
)


@pytest.fixture
def acme(world: World) -> World:
    publish_types()
    start_platform()
    User.objects.create_superuser("root")
    return world


@pytest.fixture
def client(acme: World) -> Client:
    browser = Client()
    browser.force_login(User.objects.get(username="root"))
    return browser


def act(client: Client, action: str, *tasks: Task) -> None:
    chosen = {"action": action, "_selected_action": [str(task.pk) for task in tasks]}
    assert client.post(LIST, chosen, follow=True).status_code == 200


def test_every_model_that_can_be_registered_is() -> None:
    known = {
        *("backlog", "dependency", "inflight", "lane", "later", "leader", "parked", "ready"),
        *("estimate", "keyholder", "pause", "poolbounds", "poolmachine", "route", "run", "task"),
        *("tasktype", "worker"),
    }
    assert set(MODELS) == known


@pytest.mark.parametrize("model", MODELS)
def test_each_list_opens_and_nothing_can_be_added(acme: World, client: Client, model: str) -> None:
    parent = submitted(acme.acme)
    running(submitted(acme.acme))
    submitted(acme.acme, depends_on=(parent.pk,), queue_timeout=9)
    Estimate.objects.create(type_id=TaskType.objects.earliest("pk").pk, seconds=3)
    Estimate.objects.create(type_id=0, tenant_id=acme.acme.pk, seconds=3)
    Route.objects.create(name="long", queue="batch", over=600, tenant=acme.acme, by="operator:root")
    assert client.get(f"/admin/tasks/{model}/").status_code == 200
    assert client.get(f"/admin/tasks/{model}/add/").status_code == 403


def test_a_task_shows_events_and_runs_and_cannot_be_saved_or_deleted(
    acme: World, client: Client
) -> None:
    task = ended(submitted(acme.acme, labels={"x": "<script>alert(1)</script>"}))
    page = client.get(f"{LIST}{task.pk}/change/")
    assert page.status_code == 200
    assert b"&quot;completed&quot;" in page.content
    assert b"<script>alert(1)" not in page.content
    assert client.post(f"{LIST}{task.pk}/change/", {"status": "queued"}).status_code == 403
    assert client.post(f"{LIST}{task.pk}/delete/", {"post": "yes"}).status_code == 403
    task.refresh_from_db()
    assert task.status == "completed"


def test_the_secret_of_a_dispatch_is_not_shown(acme: World, client: Client) -> None:
    task = submitted(acme.acme)
    running(task)
    page = client.get(f"/admin/tasks/inflight/{task.pk}/change/")
    assert page.status_code == 200
    assert b"t" * 43 not in page.content


def test_the_list_filters_and_searches(acme: World, client: Client) -> None:
    broken = failed(submitted(acme.acme, labels={"pr": "7"}))
    parent = submitted(acme.other, "lint.ruff", key="deploy")
    child = submitted(acme.other, depends_on=(parent.pk,))

    def found(query: str) -> set[str]:
        page = client.get(f"{LIST}?{query}")
        assert page.status_code == 200
        return {str(task.pk) for task in page.context["cl"].queryset}

    assert found("status__exact=failed") == {str(broken.pk)}
    assert found("type=lint.ruff") == {str(parent.pk)}
    assert found(f"tenant__id__exact={acme.acme.pk}") == {str(broken.pk)}
    assert found("cancel_requested=true") == set()
    assert found("consumed=false&schedule=false") == {str(broken.pk), str(parent.pk), str(child.pk)}
    assert found("q=pr%3D7") == {str(broken.pk)}
    assert found("q=deploy") == {str(parent.pk)}
    assert found(f"q={parent.pk}") == {str(parent.pk), str(child.pk)}
    assert found("q=nonsense") == set()


def test_the_list_costs_the_same_whatever_its_length(acme: World, client: Client) -> None:
    def cost() -> int:
        with CaptureQueriesContext(connection) as queries:
            client.get(LIST)
        return len(queries)

    submitted(acme.acme)
    cost()
    one = cost()
    for _ in range(10):
        submitted(acme.other)
    assert cost() == one


def test_operators_cancel_and_retry_with_a_trail(acme: World, client: Client) -> None:
    waiting, broken, done = submitted(acme.acme), failed(submitted(acme.acme)), submitted(acme.acme)
    ended(done)
    act(client, "cancel_tasks", waiting, done)
    act(client, "retry_tasks", broken, done)
    for task, status in ((waiting, "cancelled"), (broken, "queued"), (done, "completed")):
        task.refresh_from_db()
        assert task.status == status
    assert waiting.cancel_requested_by == "operator:root"
    entries = AuditEntry.objects.filter(action__startswith="task.").order_by("id")
    assert [(entry.actor, entry.action, entry.object) for entry in entries] == [
        ("operator:root", "task.cancel", f"task:{waiting.pk}"),
        ("operator:root", "task.retry", f"task:{broken.pk}"),
    ]


@pytest.mark.django_db(transaction=True)
def test_a_run_can_be_declared_lost(lasting_world: World) -> None:
    publish_types()
    User.objects.create_superuser("root")
    browser = Client()
    browser.force_login(User.objects.get(username="root"))
    task = submitted(lasting_world.acme)
    running(task)
    act(browser, "declare_lost", task)
    task.refresh_from_db()
    assert (task.status, task.losses) == ("queued", 1)
    assert AuditEntry.objects.get(action="task.lose").object == f"task:{task.pk}"


def test_who_may_only_look_finds_no_actions(acme: World) -> None:
    task = submitted(acme.acme)
    looker = User.objects.create(username="looker", is_staff=True)
    looker.user_permissions.add(Permission.objects.get(codename="view_task"))
    browser = Client()
    browser.force_login(looker)
    assert browser.get(LIST).status_code == 200
    act(browser, "cancel_tasks", task)
    task.refresh_from_db()
    assert task.status == "queued"


def test_retries_that_find_their_line_full_are_left_as_they_were(acme: World, client: Client) -> None:
    tasks = [failed(submitted(acme.acme)) for _ in range(3)]
    Limit.objects.create(tenant=acme.acme, queue="normal", queued=2)
    act(client, "retry_tasks", *tasks)
    assert [Task.objects.get(pk=task.pk).status for task in tasks] == ["queued", "queued", "failed"]
