"""What the pages show: every status, why a task waits or failed, and text that stays text."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from html import escape

import pytest
from django.contrib.auth.models import User
from django.db.models import F
from django.test import Client

from tasks.models import Task, Worker
from tasks.outcomes import Outcome
from tasks.services.append import Progress
from tasks.services.finish import finish
from tasks.services.preempt import preempt
from tasks.services.submit import submit
from tasks.states import RunStatus
from tasks.submission import Submission
from tenants.actor import Actor
from tests.tasks.api.work import ended, failed, lines, running, submitted
from tests.tenants.callers import World
from tests.web.conftest import PAGE, Browser

NOW = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'>"


def page_of(client: Client, task: Task) -> str:
    answer = client.get(f"/t/acme/tasks/{task.pk}")
    assert answer.status_code == 200
    return answer.content.decode()


def test_an_empty_tenant_is_shown_how_to_submit(world: World, log_in: Browser) -> None:
    page = log_in("alice").get("/t/acme/tasks").content.decode()
    assert "No task has been submitted yet" in page
    assert "switchyard run shell.command" in page
    assert "curl -sS http://testserver/api/v1/tenants/acme/tasks" in page


def test_filters_that_match_nothing_offer_to_clear_them(world: World, log_in: Browser) -> None:
    submitted(world.acme)
    page = log_in("alice").get("/t/acme/tasks?status=failed").content.decode()
    assert "No task matches" in page
    assert "Clear the filters" in page


def test_filters_narrow_the_list_and_add_up(world: World, log_in: Browser) -> None:
    ruff = submitted(world.acme, "lint.ruff", labels={"pr": "1"})
    mypy = submitted(world.acme, "lint.mypy", labels={"pr": "1"})
    done = ended(submitted(world.acme, "lint.ruff", labels={"pr": "2"}))
    alice = log_in("alice")

    def shown(query: str) -> set[Task]:
        page = alice.get(f"/t/acme/tasks?{query}").content.decode()
        return {task for task in (ruff, mypy, done) if f'id="task-{task.pk}"' in page}

    assert shown("") == {ruff, mypy, done}
    assert shown("type=lint.ruff") == {ruff, done}
    assert shown("type=lint.*&label=pr%3D1") == {ruff, mypy}
    assert shown("status=queued&status=completed&queue=critical") == {ruff, done}
    assert shown("status=completed,failed") == {done}
    assert shown(f"q={mypy.pk}") == {mypy}
    assert shown(f"q={str(mypy.pk)[:30]}") >= {mypy}


@pytest.mark.parametrize(
    "query",
    [
        "status=bogus",
        "queue=bogus",
        "q=%00",
        "type=%00",
        "label=%00",
        "label=%3D",
        "q=zz",
        "cursor=bogus",
        "cursor=%00",
        "status=" + "x" * 5000,
        "type=" + "*" * 300,
        "unknown=1",
    ],
)
def test_a_wrong_filter_is_ignored_and_named_never_an_error(
    world: World, log_in: Browser, query: str
) -> None:
    submitted(world.acme)
    assert log_in("alice").get(f"/t/acme/tasks?{query}").status_code == 200


def test_the_list_is_paged_by_cursor_and_stays_stable_while_rows_come_in(
    world: World, log_in: Browser
) -> None:
    made = [submitted(world.acme) for _ in range(55)]
    alice = log_in("alice")
    first = alice.get("/t/acme/tasks")
    submitted(world.acme)
    second = alice.get("/t/acme/tasks" + first.context["next"])
    shown = [task.pk for page in (first, second) for task, _ in page.context["tasks"]]
    assert shown == [task.pk for task in reversed(made)]
    back = alice.get("/t/acme/tasks" + second.context["previous"])
    assert [t.pk for t, _ in back.context["tasks"]] == [t.pk for t, _ in first.context["tasks"]]


def test_the_list_takes_a_fixed_number_of_queries(
    world: World, log_in: Browser, django_assert_max_num_queries: object
) -> None:
    for _ in range(20):
        submitted(world.acme)
    alice = log_in("alice")
    with django_assert_max_num_queries(8):  # type: ignore[operator]
        assert alice.get("/t/acme/tasks", headers={"HX-Request": "true"}).status_code == 200


def test_htmx_gets_the_table_alone(world: World, log_in: Browser) -> None:
    submitted(world.acme)
    fragment = log_in("alice").get("/t/acme/tasks", headers={"HX-Request": "true"})
    assert fragment.content.decode().strip().startswith('<section id="tasks"')


def test_a_waiting_task_says_why(world: World, log_in: Browser) -> None:
    Worker.objects.all().delete()
    page = page_of(log_in("alice"), submitted(world.acme, "lint.ruff"))
    assert "Why it is not running" in page
    assert "No worker of the critical pool can run lint.ruff." in page


def test_a_result_is_shown_as_long_as_it_is_kept(world: World, log_in: Browser) -> None:
    task = ended(submitted(world.acme), result={"answer": 4711})
    alice = log_in("alice")
    assert "4711" in page_of(alice, task)
    month = timedelta(days=31)
    Task.objects.filter(pk=task.pk).update(
        started_at=F("started_at") - month, finished_at=F("finished_at") - month
    )
    page = page_of(alice, task)
    assert "4711" not in page
    assert "kept for long enough, and is gone" in page


def test_a_scheduled_task_shows_when_it_starts(world: World, log_in: Browser) -> None:
    task = submitted(world.acme, scheduled_for=datetime.now(UTC) + timedelta(hours=3))
    assert "It starts at" in page_of(log_in("alice"), task)


def test_a_running_task_shows_its_progress(world: World, log_in: Browser) -> None:
    task = submitted(world.acme)
    running(task, Progress(NOW, 41.7, "compiling"))
    page = page_of(log_in("alice"), task)
    assert '<progress id="progress" max="100" value="42"' in page
    assert "compiling" in page


def test_a_task_that_made_room_shows_how_often_and_why(world: World, log_in: Browser) -> None:
    task = submitted(world.acme, queue="batch", preemptible=True, max_retries=0)
    claimed = running(task)
    assert preempt(task.pk, epoch=claimed.epoch)
    finish(task.pk, claimed.epoch, Outcome(RunStatus.PREEMPTED))
    page = page_of(log_in("alice"), task)
    assert "1 of 2 · stopped 1 × for critical work" in page
    assert "Asked to make room for critical work" in page
    assert '<span class="quiet">preempted</span>' in page


def test_a_failed_task_shows_the_failure_before_its_log(world: World, log_in: Browser) -> None:
    task = failed(submitted(world.acme))
    page = page_of(log_in("alice"), task)
    assert "it broke" in page
    assert "ValueError" in page
    assert page.index("it broke") < page.index('id="log"')
    assert "retry-button" in page


def test_the_last_lines_of_a_failure_have_no_escape_sequence(world: World, log_in: Browser) -> None:
    said = lines(NOW, "\x1b[31mred\x1b[0m", "\x1b]0;title\x07x\x1b[2J", "a\u202eb\x08", EVIL)
    error = {"code": "broken", "message": EVIL}
    task = ended(submitted(world.acme), RunStatus.FAILED, said, error=error, retry=False)
    page = page_of(log_in("alice"), task)
    assert "red\nx\na&lt;U+202E&gt;b\u2408\n" in page
    assert not any(sign in page for sign in ("\x1b", "\x07", "\x08", "\u202e"))


@pytest.mark.parametrize("shown_on", ["page", "list", "state"])
def test_text_of_a_tenant_stays_text_everywhere(world: World, log_in: Browser, shown_on: str) -> None:
    task = submit(
        world.acme,
        Actor(kind="user", name=f"user:{EVIL}"),
        Submission(type="test.dummy", labels={EVIL[:50]: EVIL}, key=EVIL),
    )
    error = {"code": EVIL, "type": EVIL, "message": EVIL, "detail": EVIL}
    said = (Progress(NOW, 5, EVIL), lines(NOW, EVIL, stream="stderr"))
    ended(task, RunStatus.FAILED, *said, error=error, retry=False, result=EVIL)
    path = {
        "page": f"/t/acme/tasks/{task.pk}",
        "list": "/t/acme/tasks",
        "state": f"/t/acme/tasks/{task.pk}/state",
    }[shown_on]
    page = log_in("alice").get(path).content.decode()
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert escape(EVIL[:20]) in page


def test_every_page_forbids_scripts_of_elsewhere_and_inline_ones(world: World, log_in: Browser) -> None:
    answer = log_in("alice").get("/t/acme/tasks")
    policy = dict(part.strip().split(" ", 1) for part in answer["Content-Security-Policy"].split(";"))
    assert policy["script-src"] == "'self'"
    assert policy["style-src"] == "'self'"
    assert policy["default-src"] == "'none'"
    assert answer["Cache-Control"] == "no-store"
    assert '"allowEval": false' in answer.content.decode()


def test_the_catalogue_shows_each_type_with_its_params_and_whether_it_can_run(
    world: World, log_in: Browser
) -> None:
    alice = log_in("alice")
    page = alice.get("/t/acme/task-types").content.decode()
    assert "lint.ruff" in page
    assert "seconds" in page
    assert "no worker runs it now" not in page
    Worker.objects.all().delete()
    assert "no worker runs it now" in alice.get("/t/acme/task-types").content.decode()


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [("/nothing/here", 404, "Nothing stops here"), ("/t/acme/submit", 403, "You may not do this")],
)
def test_errors_are_pages_in_our_own_style(
    world: World, log_in: Browser, path: str, status: int, words: str
) -> None:
    answer = log_in("bob").get(path)
    assert answer.status_code == status
    assert words in answer.content.decode()
    assert "tokens.css" in answer.content.decode()


def test_an_unknown_address_of_the_api_is_still_json(world: World) -> None:
    answer = Client().get("/api/v1/nothing")
    assert answer.status_code == 404
    assert answer["Content-Type"].startswith("application/problem+json")


def test_log_in_and_out_work_and_nobody_can_sign_up(world: World) -> None:
    user = User.objects.get(username="alice")
    user.set_password("a-good-password-1")
    user.save()
    client = Client(headers=PAGE)
    wrong = client.post("/login", {"login": "alice", "password": "wrong"})
    assert wrong.status_code == 200
    assert "not correct" in wrong.content.decode()
    right = client.post("/login?next=/t/acme/tasks", {"login": "alice", "password": "a-good-password-1"})
    assert right["Location"] == "/t/acme/tasks"
    assert client.get("/logout").status_code == 200
    assert client.post("/logout")["Location"] == "/login"
    assert client.get("/t/acme/tasks").status_code == 302
    client.post(
        "/accounts/signup/",
        {"username": "eve", "password1": "a-good-password-1", "password2": "a-good-password-1"},
    )
    assert not User.objects.filter(username="eve").exists()


@pytest.mark.parametrize("target", ["https://evil.example/", "//evil.example/", "javascript:alert(1)"])
def test_the_log_in_leads_to_our_own_pages_only(world: World, log_in: Browser, target: str) -> None:
    answer = log_in("alice").get("/login", {"next": target})
    assert answer["Location"] == "/"
