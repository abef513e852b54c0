"""``GET /tasks``: order, pages and filters."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest

from rest.times import rfc3339
from tasks.clock import database_now
from tasks.models import Task
from tasks.services.cancel import cancel
from tests.questions import questions
from tests.tasks.api.work import ended, failed, publish_types, running, submitted
from tests.tenants.callers import Caller, World

TASKS = "/api/v1/tenants/acme/tasks"


def ids(caller: Caller, query: str = "") -> list[str]:
    answer = caller.get(f"{TASKS}?{query}")
    assert answer.status_code == 200, answer.content
    return [task["id"] for task in answer.json()["results"]]


def test_the_newest_task_comes_first_and_foreign_ones_never(acme: World) -> None:
    mine = [submitted(acme.acme) for _ in range(3)]
    submitted(acme.other)
    assert ids(acme.token()) == [str(task.pk) for task in reversed(mine)]


def test_pages_neither_repeat_nor_skip_while_tasks_are_submitted(acme: World) -> None:
    old = [str(submitted(acme.acme).pk) for _ in range(5)]
    caller = acme.token()
    first = caller.get(f"{TASKS}?limit=2").json()
    submitted(acme.acme)
    second = caller.get(first["next"]).json()
    third = caller.get(second["next"]).json()
    seen = [task["id"] for page in (first, second, third) for task in page["results"]]
    assert seen == old[::-1]
    assert third["next"] is None
    assert caller.get(third["previous"]).json()["results"] == second["results"]


def test_every_filter_alone_and_combined(acme: World) -> None:
    tenant = acme.acme
    caller = acme.token()
    plain = submitted(tenant)
    lint = submitted(tenant, "lint.ruff", labels={"pr": "1", "team": "x"}, key="k1")
    mypy = submitted(tenant, "lint.mypy", labels={"pr": "2"}, by="token:ci")
    child = submitted(tenant, "lint.ruff", depends_on=(lint.pk, mypy.pk))
    broken = failed(submitted(tenant, queue="batch"))
    stopped = cancel(submitted(tenant).pk, by="user:alice").task
    busy = submitted(tenant, "lint.ruff")
    running(busy)
    cancel(busy.pk, by="user:alice")
    seen = ended(submitted(tenant))
    Task.objects.filter(pk=seen.pk).update(consumed_at=seen.finished_at, schedule_id=seen.pk)
    nobody = submitted(tenant)
    Task.objects.filter(pk=nobody.pk).update(submitted_by="")
    made = {
        "plain": plain,
        "lint": lint,
        "mypy": mypy,
        "child": child,
        "broken": broken,
        "stopped": stopped,
        "busy": busy,
        "seen": seen,
        "nobody": nobody,
    }
    names = {str(task.pk): name for name, task in made.items()}

    def found(query: str) -> set[str]:
        return {names[task_id] for task_id in ids(caller, query)}

    assert found("status=failed") == {"broken"}
    assert found("status=failed,canceled") == {"broken", "stopped"}
    assert found("status=cancelled") == {"stopped"}
    assert found("type=lint.*") == {"lint", "mypy", "child", "busy"}
    assert found("type=*.mypy,test.dummy&queue=normal") == {
        *("plain", "mypy", "stopped", "seen", "nobody"),
    }
    assert found("type=lint") == set()
    assert found("type=lint_ruff") == set()
    assert found("queue=batch") == {"broken"}
    assert found("label=pr") == {"lint", "mypy"}
    assert found("label=pr%3D1") == {"lint"}
    assert found("label=pr%3D2,team%3Dx") == {"lint", "mypy"}
    assert found("label=pr%3D2,team%3Dx&type=lint.mypy") == {"mypy"}
    assert found("key=k1,k2") == {"lint"}
    assert found("submitted_by=token:ci") == {"mypy"}
    assert found("submitted_by=none") == {"nobody"}
    assert found("submitted_by=none,token:ci") == {"nobody", "mypy"}
    assert found(f"schedule={seen.pk}") == {"seen"}
    assert found("schedule=none&status=completed") == set()
    assert found(f"parent={lint.pk},{mypy.pk}") == {"child"}
    assert found("cancel_requested=true") == {"stopped", "busy"}
    assert found("cancel_requested=false&status=running") == set()
    assert found("consumed=true") == {"seen"}
    assert found("consumed=false&status=completed") == set()
    assert found("finished_after=1990-01-01T00:00:00Z") == {"broken", "stopped", "seen"}
    assert found("") == set(names.values())


@pytest.mark.parametrize("what", ["created", "started", "finished"])
def test_times_are_inclusive(acme: World, what: str) -> None:
    task = ended(submitted(acme.acme))
    moment = getattr(task, f"{what}_at")
    just = timedelta(microseconds=1)
    caller = acme.token()

    def between(after: Any, before: Any) -> list[str]:
        return ids(
            caller,
            f"{what}_after={quote(rfc3339(after) or '')}&{what}_before={quote(rfc3339(before) or '')}",
        )

    assert between(moment, moment) == [str(task.pk)]
    assert between(moment + just, moment + just) == []
    assert between(moment - just, moment - just) == []


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("limit=0", "query:limit"),
        ("limit=-1", "query:limit"),
        ("limit=abc", "query:limit"),
        ("limit=201", "query:limit"),
        ("cursor=made-up", "query:cursor"),
        ("status=done", "query:status"),
        ("status=", "query:status"),
        ("status=failed&status=queued", "query:status"),
        ("queue=express", "query:queue"),
        ("type=", "query:type"),
        ("label=%3Dx", "query:label"),
        ("key=%00", "query:key"),
        ("schedule=7", "query:schedule"),
        ("parent=none", "query:parent"),
        ("created_after=2026-11-21", "query:created_after"),
        ("started_before=2026-11-21T10:00:00", "query:started_before"),
        ("finished_after=yesterday", "query:finished_after"),
        ("cancel_requested=1", "query:cancel_requested"),
        ("consumed=True", "query:consumed"),
        ("tenant=other", "query:tenant"),
        ("ordering=password", "query:ordering"),
        ("page_size=10", "query:page_size"),
    ],
)
def test_a_bad_parameter_is_refused_by_name(acme: World, query: str, pointer: str) -> None:
    answer = acme.token().get(f"{TASKS}?{query}")
    assert answer.status_code == 400, answer.content
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]


def test_a_day_among_other_days_is_found_whole(acme: World) -> None:
    now = database_now()
    made = [
        Task.objects.create(
            tenant=acme.acme,
            type="test.dummy",
            queue="normal",
            status="allocated",
            last_seq=1,
            created_at=now - timedelta(hours=hours),
        )
        for hours in (72, 49, 48, 24)
    ]
    submitted(acme.acme)
    caller = acme.token()
    start = quote(rfc3339(now - timedelta(hours=50)) or "")
    end = quote(rfc3339(now - timedelta(hours=48)) or "")
    assert ids(caller, f"created_after={start}&created_before={end}") == [
        str(made[2].pk),
        str(made[1].pk),
    ]
    assert ids(caller, f"created_before={start}") == [str(made[0].pk)]
    assert len(ids(caller, f"created_after={end}")) == 3
    assert ids(caller, f"started_before={end}") == []


@pytest.mark.parametrize("what", ["created", "started", "finished"])
def test_a_bound_at_the_end_of_all_time_excludes_nothing(acme: World, what: str) -> None:
    task = str(ended(submitted(acme.acme)).pk)
    bounds = {
        f"{what}_after": "0001-01-01T00:00:00Z",
        f"{what}_before": "9999-12-31T23:59:59.999999Z",
    }
    for name, moment in bounds.items():
        assert ids(acme.token(), f"{name}={moment}") == [task]
        everywhere = acme.operator().get(f"/api/v1/operator/tasks?{name}={moment}")
        assert [row["id"] for row in everywhere.json()["results"]] == [task]
        body = {"filter": {name: moment, "status": "completed"}, "dry_run": True}
        assert acme.token().post(f"{TASKS}/actions/retry", body).status_code == 200


def test_a_page_costs_the_same_few_queries_whatever_its_length(acme: World) -> None:
    caller = acme.token()

    def cost(limit: int) -> int:
        with questions() as asked:
            assert len(ids(caller, f"limit={limit}")) == limit
        return len(asked)

    parent = submitted(acme.acme)
    for _ in range(20):
        submitted(acme.acme, depends_on=(parent.pk,))
        submitted(acme.acme, "lint.ruff")
    ids(caller)  # the token's last use is noted once a minute
    # Token and tenant; the page; why each waits; who waits for whom.
    assert cost(1) == cost(40) == 4


def test_one_task_costs_a_few_queries(acme: World) -> None:
    caller = acme.token()
    task = submitted(acme.acme)
    ids(caller)
    with questions() as asked:
        assert caller.get(f"{TASKS}/{task.pk}").status_code == 200
    # Token and tenant; the task; why it waits; relatives; parents' states; runs.
    assert len(asked) == 6


def test_listing_does_not_consume(acme: World) -> None:
    caller = acme.token()
    task = ended(submitted(acme.acme, by="token:ci"))
    ids(caller)
    task.refresh_from_db()
    assert task.consumed_at is None


def test_a_parent_shows_its_children_and_a_child_its_parents(acme: World) -> None:
    parent = submitted(acme.acme)
    child = submitted(acme.acme, depends_on=(parent.pk,))
    rows = {row["id"]: row for row in acme.token().get(TASKS).json()["results"]}
    assert rows[str(parent.pk)]["dependents"] == [str(child.pk)]
    assert rows[str(child.pk)]["depends_on"] == [str(parent.pk)]
    assert rows[str(child.pk)]["waiting_for"]["reason"] == "parents"


def test_a_submission_asks_the_same_few_questions_in_a_full_tenant(acme: World) -> None:
    caller = acme.token()

    def cost() -> int:
        with questions() as asked:
            assert caller.post(TASKS, {"type": "test.dummy"}).status_code == 201
        return len(asked)

    first = cost()
    before = cost()
    for _ in range(30):
        submitted(acme.acme)
    # Token and tenant; the type's version and the limits; task, event, place in line and counters;
    # why it waits. In a test the transaction is a savepoint of two statements, else part of them.
    assert before == cost() == 4 + 2
    assert first <= before + 2  # the token's last use, and the type itself
    assert uuid.UUID(ids(caller)[0])


def test_a_submission_is_three_round_trips(lasting_world: World) -> None:
    publish_types()
    caller = lasting_world.token()
    assert caller.post(TASKS, {"type": "test.dummy"}).status_code == 201
    with questions() as asked:
        answer = caller.post(TASKS, {"type": "test.dummy"})
    # Token and tenant; type, rules and limits; all that is stored, its COMMIT, and why it waits. The
    # bell is rung by a thread of its own in a web process, and here by this one.
    assert (answer.status_code, len(asked)) == (201, 3 + 1)
    assert (
        answer.json()["waiting_for"]
        == caller.get(f"{TASKS}/{answer.json()['id']}").json()["waiting_for"]
    )
