"""The submit form: the API's checks, with each error at its field."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.test import Client

from tasks.models import Task, TaskType
from tests.tasks.api.work import submitted
from tests.tenants.callers import World
from tests.web.conftest import Browser

HTMX = {"HX-Request": "true", "Accept": "*/*"}


def post(client: Client, typed: dict[str, str], *, type: str = "deploy.site") -> Any:
    return client.post(f"/t/acme/submit?type={type}", typed)


def errors_of(answer: Any) -> dict[str, list[str]]:
    form = answer.context["form"]
    fields = [*form.params, *form.options.values()]
    return {field.pointer: field.errors for field in fields if field.errors}


def test_what_is_typed_becomes_a_task(world: World, log_in: Browser, rich_type: TaskType) -> None:
    answer = post(
        log_in("mia"),
        {
            "params.target": "production",
            "params.count": "3",
            "params.ratio": "0.5",
            "params.force": "true",
            "params.level": '"high"',
            "params.paths": "a\nb c\n",
            "params.extra": '{"k": [1, null]}',
            "params.script": '["ls", "-l"]',
            "queue": "batch",
            "priority": "-7",
            "labels": "pr=4711\nbranch = main",
            "key": "site",
            "scheduled_for": "",
        },
    )
    task = Task.objects.get()
    assert answer["Location"] == f"/t/acme/tasks/{task.pk}"
    assert task.params == {
        "target": "production",
        "count": 3,
        "force": True,
        "level": "high",
        "paths": ["a", "b c"],
        "extra": {"k": [1, None]},
        "script": ["ls", "-l"],
    }
    assert (task.queue, task.priority, task.key) == ("batch", -7, "site")
    assert task.labels == {"pr": "4711", "branch": "main"}
    assert task.submitted_by == "user:mia"
    assert task.request_id


def test_errors_stand_at_their_fields_and_what_was_typed_stays(
    world: World, log_in: Browser, rich_type: TaskType
) -> None:
    answer = post(
        log_in("mia"),
        {
            "params.target": "",
            "params.count": "many",
            "params.extra": "{",
            "priority": "101",
            "labels": "no sign",
            "scheduled_for": "soon",
        },
    )
    assert answer.status_code == 400
    assert set(errors_of(answer)) == {
        "/params/target",
        "/params/count",
        "/params/extra",
        "/priority",
        "/labels",
        "/scheduled_for",
    }
    assert 'value="many"' in answer.content.decode()
    assert Task.objects.count() == 0


def test_the_servers_own_errors_are_placed_too(
    world: World, log_in: Browser, rich_type: TaskType
) -> None:
    answer = post(log_in("mia"), {"params.target": "x", "params.count": "0"})
    assert set(errors_of(answer)) == {"/params/count"}
    answer = post(log_in("mia"), {"params.target": "x", "scheduled_for": "2020-01-01T00:00"})
    assert set(errors_of(answer)) == {"/scheduled_for"}


def test_an_error_of_no_field_stands_at_the_head_of_the_form(
    world: World, log_in: Browser, rich_type: TaskType
) -> None:
    submitted(world.acme, key="taken")
    answer = post(log_in("mia"), {"params.target": "x", "key": "taken"})
    assert "has not ended yet" in answer.content.decode()
    assert Task.objects.count() == 1


@pytest.mark.parametrize(
    "typed",
    [
        {"params.target": "\x00"},
        {"params.target": "x", "key": "\x00"},
        {"params.target": "x", "labels": "a\x00=b"},
        {"params.target": "x", "params.extra": '"\\ud800"'},
        {"params.target": "x", "params.extra": '{"a": "\\u0000"}'},
        {"params.target": "x", "params.extra": "{" * 50_000},
        {"params.target": "x", "key": "k" * 300},
        {"params.target": "x", "queue": "bogus"},
        {"params.target": "x", "priority": "٣"},
        {"params.target": "x", "scheduled_for": "0001-01-01T00:00"},
        {"params.target": "x", "scheduled_for": "9999-12-31T23:59:59"},
        {"params.target": "x", "scheduled_for": "0001-01-01T00:00:00+23:00"},
        {"params.target": "x", "scheduled_for": "9999-12-31T23:59:59-23:00"},
        {"params.target": "x", "params.extra": '{"a": ' + "9" * 5000 + "}"},
    ],
)
def test_hostile_input_is_refused_with_a_sentence(
    world: World, log_in: Browser, rich_type: TaskType, typed: dict[str, str]
) -> None:
    answer = post(log_in("mia"), typed)
    assert answer.status_code == 400, typed
    assert Task.objects.count() == 0
    form = answer.context["form"]
    assert any(errors_of(answer).values()) or form.rest


def test_checking_submits_nothing_and_says_what_would_happen(
    world: World, log_in: Browser, rich_type: TaskType
) -> None:
    answer = post(log_in("mia"), {"params.target": "x", "action": "check"})
    assert "This would be accepted" in answer.content.decode()
    answer = post(log_in("mia"), {"params.target": "", "action": "check"})
    assert errors_of(answer) == {"/params/target": ["This is needed."]}
    assert Task.objects.count() == 0


def test_htmx_gets_the_form_again_or_is_sent_to_the_task(
    world: World, log_in: Browser, rich_type: TaskType
) -> None:
    mia = log_in("mia")
    refused = mia.post("/t/acme/submit?type=deploy.site", {}, headers=HTMX)
    # htmx swaps only answers below 400.
    assert refused.status_code == 200
    assert refused.content.decode().strip().startswith('<div id="submit-area"')
    accepted = mia.post("/t/acme/submit?type=deploy.site", {"params.target": "x"}, headers=HTMX)
    assert accepted.status_code == 204
    assert accepted["HX-Redirect"] == f"/t/acme/tasks/{Task.objects.get().pk}"


def test_the_equal_calls_follow_what_is_typed(
    world: World, log_in: Browser, rich_type: TaskType
) -> None:
    answer = log_in("mia").post(
        "/t/acme/submit/calls?type=deploy.site", {"params.target": "x", "queue": "batch"}
    )
    assert answer.context["command"] == "switchyard run deploy.site --queue=batch -p target=x"
    body = {"type": "deploy.site", "params": {"target": "x"}, "queue": "batch"}
    assert json.dumps(body) in answer.context["curl"]


def test_test_types_are_offered_only_where_they_are_switched_on(
    world: World, log_in: Browser, settings: Any
) -> None:
    mia = log_in("mia")
    assert mia.get("/t/acme/submit?type=test.dummy").status_code == 200
    settings.SWITCHYARD = settings.SWITCHYARD.model_copy(update={"test_task_types": False})
    assert mia.get("/t/acme/submit?type=test.dummy").status_code == 404
    assert b"test.dummy" not in mia.get("/t/acme/submit").content


def test_a_link_may_carry_params(world: World, log_in: Browser, rich_type: TaskType) -> None:
    given = json.dumps({"target": "<b>x</b>", "count": 4})
    page = log_in("mia").get("/t/acme/submit", {"type": "deploy.site", "params": given})
    assert 'value="&lt;b&gt;x&lt;/b&gt;"' in page.content.decode()
    for hostile in ("{", "[]", "[" * 100_000, '{"count": {"a": []}}'):
        path = "/t/acme/submit"
        assert log_in("mia").get(path, {"type": "deploy.site", "params": hostile}).status_code == 200
