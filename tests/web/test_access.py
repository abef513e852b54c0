"""Who may see and do what on the pages: the API's rules, behind the same door."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError
from django.http import HttpResponse
from django.test import Client, RequestFactory
from django.urls import reverse

from tasks.states import RunStatus, Status
from tests.tasks.api.work import ended, running, submitted
from tests.tenants.callers import World
from tests.web.conftest import PAGE, Browser
from web.access import Visit, member_page

UNKNOWN = "01890000-0000-7000-8000-000000000000"


def pages(slug: str, task_id: str) -> list[str]:
    return [
        f"/t/{slug}/tasks",
        f"/t/{slug}/tasks/rows?ids={task_id}",
        f"/t/{slug}/task-types",
        f"/t/{slug}/tasks/{task_id}",
        f"/t/{slug}/tasks/{task_id}/state",
        f"/t/{slug}/tasks/{task_id}/log/older?before=9",
        f"/t/{slug}/tasks/{task_id}/log/place?run=1&line=1",
    ]


def test_every_page_sends_an_anonymous_visitor_to_the_log_in_and_back(world: World) -> None:
    for path in pages("acme", UNKNOWN):
        answer = Client(headers=PAGE).get(path)
        assert answer.status_code == 302
        assert answer["Location"].startswith("/login?next=/t/acme/")


def test_a_fragment_asked_for_without_a_session_moves_the_whole_page_to_the_log_in(
    world: World,
) -> None:
    answer = Client().get(
        "/t/acme/tasks",
        headers={"HX-Request": "true", "HX-Current-URL": "http://testserver/t/acme/tasks?q=1"},
    )
    assert answer.status_code == 204
    assert answer["HX-Redirect"] == "/login?next=/t/acme/tasks%3Fq%3D1"


def test_every_page_of_a_foreign_tenant_is_404_as_if_it_did_not_exist(
    world: World, log_in: Browser
) -> None:
    task = submitted(world.acme)
    carol = log_in("carol")
    for path in pages("acme", str(task.pk)):
        assert carol.get(path).status_code == 404, path
    for path in pages("other", str(task.pk))[3:]:
        assert carol.get(path).status_code == 404, path
    assert carol.get(f"/t/other/tasks/rows?ids={task.pk}").content.strip() == b""
    for action in ("cancel", "retry"):
        for slug in ("acme", "other"):
            assert carol.post(f"/t/{slug}/tasks/{task.pk}/{action}").status_code == 404


@pytest.mark.parametrize("task_id", [UNKNOWN, "nonsense", "7", "%00"])
def test_an_unknown_and_a_malformed_id_are_404(world: World, log_in: Browser, task_id: str) -> None:
    assert log_in("alice").get(f"/t/acme/tasks/{task_id}").status_code == 404


def test_a_viewer_sees_everything_and_may_change_nothing(world: World, log_in: Browser) -> None:
    task = submitted(world.acme)
    bob = log_in("bob")
    for path in pages("acme", str(task.pk)):
        assert bob.get(path).status_code == 200, path
    assert b"cancel-button" not in bob.get(f"/t/acme/tasks/{task.pk}").content
    assert bob.get("/t/acme/submit").status_code == 403
    assert bob.post("/t/acme/submit?type=lint.ruff").status_code == 403
    assert bob.post(f"/t/acme/tasks/{task.pk}/cancel").status_code == 403
    task.refresh_from_db()
    assert task.status == Status.QUEUED


def test_a_member_cancels_and_retries_only_own_tasks(world: World, log_in: Browser) -> None:
    own, others = submitted(world.acme, by="user:mia"), submitted(world.acme, by="user:alice")
    mia = log_in("mia")
    assert mia.post(f"/t/acme/tasks/{own.pk}/cancel", {"reason": "typo"}).status_code == 302
    assert mia.post(f"/t/acme/tasks/{others.pk}/cancel").status_code == 403
    own.refresh_from_db()
    others.refresh_from_db()
    assert (own.status, own.cancel_reason) == (Status.CANCELLED, "typo")
    assert others.status == Status.QUEUED
    assert mia.post(f"/t/acme/tasks/{own.pk}/retry").status_code == 302
    own.refresh_from_db()
    assert (own.status, own.life) == (Status.QUEUED, 2)


def test_an_admin_cancels_the_tasks_of_others_and_may_force_it(world: World, log_in: Browser) -> None:
    task = submitted(world.acme, "lint.mypy", by="user:mia")
    running(task)
    assert log_in("mia").post(f"/t/acme/tasks/{task.pk}/cancel", {"force": "1"}).status_code == 403
    page = log_in("adam").post(f"/t/acme/tasks/{task.pk}/cancel", {"reason": ""}, follow=True)
    assert b"A running lint.mypy cannot be cancelled" in page.content
    log_in("adam").post(f"/t/acme/tasks/{task.pk}/cancel", {"force": "1"})
    task.refresh_from_db()
    assert task.cancel_requested_by == "user:adam"


def test_a_refused_action_says_why_on_the_page_and_changes_nothing(
    world: World, log_in: Browser
) -> None:
    task = ended(submitted(world.acme), RunStatus.COMPLETED)
    alice = log_in("alice")
    page = alice.post(f"/t/acme/tasks/{task.pk}/cancel", follow=True)
    assert b"The task has ended (completed)" in page.content
    page = alice.post(f"/t/acme/tasks/{task.pk}/retry", follow=True)
    assert b"cannot be retried" in page.content


@pytest.mark.parametrize("reason", ["\x00", "a\u202eb", "x" * 501])
def test_a_reason_that_hides_or_is_too_long_is_refused(
    world: World, log_in: Browser, reason: str
) -> None:
    task = submitted(world.acme)
    answer = log_in("alice").post(f"/t/acme/tasks/{task.pk}/cancel", {"reason": reason})
    task.refresh_from_db()
    assert answer.status_code == 302
    assert task.status == Status.QUEUED


def test_actions_are_posts_with_a_csrf_token(world: World, log_in: Browser) -> None:
    task = submitted(world.acme)
    strict = Client(enforce_csrf_checks=True, headers=PAGE)
    strict.cookies = log_in("alice").cookies
    for action in ("cancel", "retry"):
        assert strict.get(f"/t/acme/tasks/{task.pk}/{action}").status_code == 405
        assert strict.post(f"/t/acme/tasks/{task.pk}/{action}").status_code == 403
    assert strict.post("/t/acme/submit?type=lint.ruff").status_code == 403
    task.refresh_from_db()
    assert task.status == Status.QUEUED


def test_an_outage_of_the_database_is_a_page_that_says_to_try_again(
    world: World, rf: RequestFactory
) -> None:
    @member_page("tasks:read")
    def broken(visit: Visit) -> HttpResponse:
        raise OperationalError("the server closed the connection")

    request = rf.get("/t/acme/tasks")
    request.user = User.objects.get(username="alice")
    answer = broken(request, tenant="acme")
    assert answer.status_code == 503
    assert answer["Retry-After"]
    assert b"Out of service for a moment" in answer.content


def test_the_first_page_goes_to_the_only_tenant(world: World, log_in: Browser) -> None:
    assert log_in("alice").get("/")["Location"] == reverse("web_tasks", args=["acme"])
    assert Client().get("/")["Location"] == "/login?next=/"


def test_who_belongs_to_no_tenant_is_told_what_to_do(world: World, log_in: Browser) -> None:
    User.objects.create(username="nobody")
    page = log_in("nobody").get("/")
    assert b"You belong to no tenant yet" in page.content


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        (f"/t/acme/tasks/{UNKNOWN}/state", 404, "There is no such thing here"),
        ("/t/acme/submit", 403, "tasks:write"),
        ("/nowhere", 404, "There is no such thing here"),
    ],
)
def test_a_fragment_that_is_refused_is_answered_with_the_problem_itself(
    world: World, log_in: Browser, path: str, status: int, words: str
) -> None:
    asked = {"HX-Request": "true", "Accept": "text/html, */*"}
    refused = log_in("bob").get(path, headers=asked)
    assert refused.status_code == status
    assert refused["Content-Type"] == "application/problem+json"
    assert words in refused.json()["detail"]
    assert log_in("bob").get(path)["Content-Type"].startswith("text/html")
