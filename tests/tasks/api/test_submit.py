"""``POST /tasks``."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import override_settings

from tasks.models import Event, Ready, Task, TaskType
from tests.tasks.api.work import failed, submitted
from tests.tenants.callers import World

TASKS = "/api/v1/tenants/acme/tasks"
FIELDS = {
    *("id", "tenant", "type", "queue", "priority", "status", "status_reason", "waiting_for"),
    *("progress", "params", "labels", "key", "depends_on", "dependents", "submitted_by"),
    *("schedule", "cancel_requested", "consumed", "attempt", "max_retries", "counts", "result"),
    *("result_expired", "error", "created_at", "scheduled_for", "queued_at", "started_at"),
    *("finished_at", "next_retry_at", "deadline_at", "last_seq", "links"),
}


def pointers(answer: Any) -> list[str]:
    assert answer.status_code == 400, answer.content
    return sorted(error["pointer"] for error in answer.json()["errors"])


def test_a_submitted_task_is_answered_201_with_its_address_and_every_member(acme: World) -> None:
    answer = acme.token().post(
        TASKS,
        {"type": "test.dummy", "params": {"seconds": 1}, "labels": {"pr": "4711"}},
        X_Request_ID="abc-1",
    )
    assert answer.status_code == 201, answer.content
    task = answer.json()
    assert set(task) == FIELDS
    assert answer["Location"] == task["links"]["self"] == f"http://testserver{TASKS}/{task['id']}"
    assert answer["X-Request-ID"] == "abc-1"
    assert (task["status"], task["tenant"], task["submitted_by"]) == ("queued", "acme", "token:ci")
    assert task["created_at"].endswith("Z")
    assert task["queued_at"].endswith("Z")
    assert task["started_at"] is None
    assert task["finished_at"] is None
    assert task["waiting_for"]["reason"] == "dispatch"
    assert task["waiting_for"]["position"] == 0
    assert task["links"]["websocket"] == f"ws://testserver/ws/v1/tenants/acme/tasks/{task['id']}"
    assert Event.objects.get(task_id=task["id"]).data["request_id"] == "abc-1"


def test_an_unknown_type_is_refused_and_leaves_no_row(acme: World) -> None:
    answer = acme.token().post(TASKS, {"type": "no.such"})
    assert pointers(answer) == ["/type"]
    assert answer.json()["code"] == "unknown_task_type"
    assert not Task.objects.exists()


def test_params_against_the_schema_are_refused_with_their_pointer(acme: World) -> None:
    answer = acme.token().post(TASKS, {"type": "test.dummy", "params": {"seconds": -1}})
    assert pointers(answer) == ["/params/seconds"]
    assert not Task.objects.exists()


@pytest.mark.parametrize(
    ("member", "value", "pointer"),
    [
        ("type", 7, "/type"),
        ("params", [], "/params"),
        ("queue", "express", "/queue"),
        ("priority", 101, "/priority"),
        ("priority", True, "/priority"),
        ("priority", "1", "/priority"),
        ("labels", {"a": 1}, "/labels/a"),
        ("labels", {"a" * 64: ""}, "/labels/" + "a" * 64),
        ("labels", {"a": "b" * 256}, "/labels/a"),
        ("labels", {"a=b": "c"}, "/labels/a=b"),
        ("labels", {"a": "\u202ecod"}, "/labels/a"),
        ("labels", {str(number): "" for number in range(33)}, "/labels"),
        ("scheduled_for", "2026-11-21T10:00:00", "/scheduled_for"),
        ("scheduled_for", "2126-11-21T10:00:00Z", "/scheduled_for"),
        ("scheduled_for", "2020-11-21T10:00:00Z", "/scheduled_for"),
        ("depends_on", ["nonsense"], "/depends_on/0"),
        ("depends_on", ["00000000-0000-7000-8000-000000000000"], "/depends_on/0"),
        ("on_parent_failure", "panic", "/on_parent_failure"),
        ("key", "", "/key"),
        ("key", "   ", "/key"),
        ("key", "k" * 256, "/key"),
        ("key_policy", "maybe", "/key_policy"),
        ("max_retries", -1, "/max_retries"),
        ("retry", {"delay": -1}, "/retry/delay"),
        ("retry", {"speed": 1}, "/retry/speed"),
        ("time_limit", 0, "/time_limit"),
        ("queue_timeout", -5, "/queue_timeout"),
        ("limits", {"memory_mb": 0}, "/limits/memory_mb"),
        ("inputs", ["../etc"], "/inputs/0"),
        ("inputs", [".."], "/inputs/0"),
        ("secrets", ["1ST"], "/secrets/0"),
        ("dry_run", 1, "/dry_run"),
        ("status", "completed", "/status"),
        ("submitted_by", "user:root", "/submitted_by"),
    ],
)
def test_a_wrong_member_is_refused_at_its_pointer(
    acme: World, member: str, value: Any, pointer: str
) -> None:
    answer = acme.token().post(TASKS, {"type": "test.dummy", member: value})
    assert pointers(answer) == [pointer]
    assert not Task.objects.exists()


def test_strange_keys_in_params_are_plain_data(acme: World) -> None:
    TaskType.objects.filter(name="lint.ruff").update(params_schema={"type": "object"})
    params = {"__proto__": {"a": 1}, "constructor": 2, "$ref": "file:///etc/passwd"}
    answer = acme.token().post(TASKS, {"type": "lint.ruff", "params": params})
    assert answer.status_code == 201
    assert Task.objects.get().params == params


def test_the_same_idempotency_key_makes_one_task(acme: World) -> None:
    caller = acme.token()
    first = caller.post(TASKS, {"type": "test.dummy"}, Idempotency_Key="k1")
    second = caller.post(TASKS, {"type": "test.dummy"}, Idempotency_Key="k1")
    other = caller.post(TASKS, {"type": "lint.ruff"}, Idempotency_Key="k1")
    assert (first.status_code, second.status_code, other.status_code) == (201, 200, 409)
    assert second["Idempotent-Replayed"] == "true"
    assert second.json() == first.json()
    assert other.json()["code"] == "idempotency_conflict"
    assert Task.objects.count() == 1


def test_a_key_in_use_is_a_conflict_that_names_the_first_task(acme: World) -> None:
    first = submitted(acme.acme, key="deploy")
    submitted(acme.other, key="deploy")
    answer = acme.token().post(TASKS, {"type": "test.dummy", "key": "deploy"})
    assert answer.status_code == 409
    assert answer.json()["code"] == "key_conflict"
    assert answer.json()["task"] == str(first.pk)


def test_a_dry_run_says_what_would_happen_and_stores_nothing(acme: World) -> None:
    caller = acme.token()
    start = caller.post(TASKS, {"type": "test.dummy", "dry_run": True})
    assert start.status_code == 200
    assert set(start.json()) == {
        *("accepted", "would", "waiting_for", "position", "estimated_start"),
    }
    assert (start.json()["accepted"], start.json()["would"]) == (True, "start")
    waits = caller.post(
        TASKS, {"type": "test.dummy", "dry_run": True, "scheduled_for": "2027-01-01T00:00:00Z"}
    )
    assert waits.json()["would"] == "wait"
    assert waits.json()["waiting_for"]["reason"] == "schedule"
    assert waits.json()["estimated_start"] == "2027-01-01T00:00:00Z"
    wrong = caller.post(TASKS, {"type": "test.dummy", "dry_run": True, "params": {"x": 1}})
    assert wrong.status_code == 400
    assert not Task.objects.exists()
    assert not Ready.objects.exists()


def test_a_dry_run_waits_behind_those_that_are_in_line(acme: World) -> None:
    submitted(acme.acme)
    submitted(acme.acme, priority=-5)
    answer = acme.token().post(TASKS, {"type": "test.dummy", "dry_run": True}).json()
    assert (answer["would"], answer["position"]) == ("wait", 1)
    assert answer["waiting_for"]["reason"] == "dispatch"


def test_a_child_of_a_failed_parent_is_answered_as_cancelled(acme: World) -> None:
    parent = failed(submitted(acme.acme))
    answer = acme.token().post(TASKS, {"type": "test.dummy", "depends_on": [str(parent.pk)]})
    assert answer.status_code == 201
    child = answer.json()
    assert (child["status"], child["status_reason"]) == ("cancelled", "parent_failed")
    assert child["finished_at"] is not None
    assert child["depends_on"] == [str(parent.pk)]


def test_a_dry_run_tells_that_a_parent_has_failed_already(acme: World) -> None:
    parent = failed(submitted(acme.acme))
    body = {"type": "test.dummy", "depends_on": [str(parent.pk)], "dry_run": True}
    answer = acme.token().post(TASKS, body).json()
    assert answer["waiting_for"]["reason"] == "parents"
    assert answer["waiting_for"]["detail"] == (
        f"It would be cancelled at once: the task {parent.pk}, on which it depends, ended as failed."
    )
    assert answer["estimated_start"] is None
    anyway = acme.token().post(TASKS, {**body, "on_parent_failure": "run"}).json()
    assert anyway["would"] == "start"


def test_another_tenants_task_cannot_be_waited_for(acme: World) -> None:
    foreign = submitted(acme.other)
    answer = acme.token().post(TASKS, {"type": "test.dummy", "depends_on": [str(foreign.pk)]})
    assert pointers(answer) == ["/depends_on/0"]


def test_a_viewer_cannot_submit_and_is_told_the_scope(acme: World) -> None:
    answer = acme.user("bob").post(TASKS, {"type": "test.dummy"})
    assert answer.status_code == 403
    assert answer.json()["required"] == "tasks:write"


def test_maintenance_refuses_submissions_and_still_answers_reads(acme: World, settings: Any) -> None:
    maintained = settings.SWITCHYARD.model_copy(update={"maintenance": True})
    with override_settings(SWITCHYARD=maintained):
        refused = acme.token().post(TASKS, {"type": "test.dummy"})
        assert refused.status_code == 503
        assert refused.json()["code"] == "maintenance"
        assert int(refused["Retry-After"]) > 0
        assert acme.token().get(TASKS).status_code == 200


def test_test_types_do_not_exist_where_they_are_off(acme: World, settings: Any) -> None:
    plain = settings.SWITCHYARD.model_copy(update={"test_task_types": False})
    with override_settings(SWITCHYARD=plain):
        answer = acme.token().post(TASKS, {"type": "test.dummy"})
        assert pointers(answer) == ["/type"]
        assert answer.json()["code"] == "unknown_task_type"
        assert not Task.objects.exists()
        names = acme.token().get("/api/v1/tenants/acme/task-types").json()["results"]
        assert "test.dummy" not in [row["name"] for row in names]
        assert acme.token().get("/api/v1/tenants/acme/task-types/test.dummy").status_code == 404
