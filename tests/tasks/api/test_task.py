"""``/tasks/{id}``, ``/runs``, ``/cancel`` and ``/retry``."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from audit.models import AuditEntry
from tasks.models import Event, Inflight, Task
from tasks.outcomes import Outcome
from tasks.services.cancel import cancel
from tasks.services.consume import consume
from tasks.services.finish import finish
from tasks.services.retry import retry
from tasks.states import RunStatus
from tests.tasks.api.work import caller, ended, failed, running, submitted
from tests.tenants.callers import World

TASKS = "/api/v1/tenants/acme/tasks"
UNKNOWN = "0193a000-0000-7000-8000-000000000000"


def test_a_task_is_shown_with_runs_dependencies_and_options(acme: World) -> None:
    parent = submitted(acme.acme)
    task = submitted(acme.acme, depends_on=(parent.pk,), inputs=(), time_limit=5)
    shown = acme.token().get(f"{TASKS}/{task.pk}").json()
    assert shown["dependencies"] == [{"id": str(parent.pk), "type": "test.dummy", "status": "queued"}]
    assert shown["runs"] == []
    assert shown["time_limit"] == 5
    assert shown["on_parent_failure"] == "cancel"
    assert shown["waiting_for"] == {
        "reason": "parents",
        "detail": "1 task has to end first.",
        "position": None,
    }


def test_foreign_unknown_and_malformed_ids_look_alike(acme: World) -> None:
    foreign = submitted(acme.other)
    caller = acme.token()
    bodies = []
    for task_id in (foreign.pk, UNKNOWN, "7", "%D9%A1", "%0a1", "x" * 300):
        answer = caller.get(f"{TASKS}/{task_id}", X_Request_ID="r")
        assert answer.status_code == 404
        bodies.append(answer.json())
    assert all(body == bodies[0] for body in bodies)


def test_only_the_submitter_consumes_an_end_and_only_once(acme: World) -> None:
    task = submitted(acme.acme, by="user:mia")
    path = f"{TASKS}/{task.pk}"
    assert acme.user("mia").get(path).json()["consumed"] is False
    ended(task)
    assert acme.user("alice").get(path).json()["consumed"] is False
    assert acme.user("mia").get(path).json()["consumed"] is True
    task.refresh_from_db()
    first = task.consumed_at
    acme.user("mia").get(path)
    task.refresh_from_db()
    assert task.consumed_at == first
    assert acme.user("alice").get(path).json()["consumed"] is True


def test_a_new_life_is_not_consumed_by_who_has_read_the_one_before(acme: World) -> None:
    mia = acme.user("mia")
    task = failed(submitted(acme.acme, by="user:mia"))
    assert mia.get(f"{TASKS}/{task.pk}").json()["consumed"] is True
    assert retry(task.pk, by="user:mia").consumed_at is None
    read = failed(task)
    failed(retry(task.pk, by="user:mia"))
    # What was read a moment before the retry comes to be noted after it.
    consume(caller("user:mia"), read)
    assert Task.objects.get(pk=task.pk).consumed_at is None


def test_where_a_run_was_executed_is_for_operators_only(acme: World) -> None:
    task = submitted(acme.acme)
    running(task)
    for path in (f"{TASKS}/{task.pk}/runs/1", f"{TASKS}/{task.pk}/runs", f"{TASKS}/{task.pk}"):
        seen = acme.operator().get(path).content
        assert b'"pid":4711' in seen
        assert b'"worker":"00000000-0000-0000-0000-000000000007"' in seen
        hidden = acme.token().get(path).content
        assert b'"pid"' not in hidden
        assert b'"worker"' not in hidden


def test_runs_are_listed_newest_first_and_named_by_attempt(acme: World) -> None:
    task = submitted(acme.acme)
    claimed = running(task)
    finish(task.pk, claimed.epoch, Outcome(RunStatus.LOST))
    task.refresh_from_db()
    ended(task, exit_code=0, result={"n": 1}, cpu_seconds=0.5)
    caller = acme.token()
    page = caller.get(f"{TASKS}/{task.pk}/runs").json()
    assert [(run["attempt"], run["status"]) for run in page["results"]] == [
        (2, "completed"),
        (1, "lost"),
    ]
    second = caller.get(f"{TASKS}/{task.pk}/runs/2").json()
    assert second["result"] == {"n": 1}
    assert second["resources"]["cpu_seconds"] == 0.5
    assert second["progress"]["percent"] == 100
    assert second["started_at"] <= second["finished_at"]
    for attempt in ("0", "3", "01", "x", "9" * 18):
        assert caller.get(f"{TASKS}/{task.pk}/runs/{attempt}").status_code == 404


@pytest.mark.parametrize(
    ("name", "status"), [("mia", 200), ("adam", 200), ("alice", 200), ("bob", 403), ("carol", 404)]
)
def test_who_may_cancel_a_members_task(acme: World, name: str, status: int) -> None:
    task = submitted(acme.acme, by="user:mia")
    answer = acme.user(name).post(f"{TASKS}/{task.pk}/cancel", {})
    assert answer.status_code == status
    task.refresh_from_db()
    assert (task.status == "cancelled") == (status == 200)


def test_a_namesake_is_not_the_submitter(acme: World) -> None:
    first = acme.token("tasks:read", "tasks:write", name="ci")
    made = first.post(TASKS, {"type": "test.dummy"}).json()
    namesake = acme.token("tasks:read", "tasks:write", name="ci")
    path = f"{TASKS}/{made['id']}/cancel"
    assert made["submitted_by"] == "token:ci"
    assert namesake.post(path, {}).status_code == 403
    assert namesake.post(f"{TASKS}/actions/cancel", {"filter": {}}).json()["matched"] == 0
    assert first.post(path, {}).json()["changed"] is True


def test_another_member_may_not_cancel_or_retry_and_is_told_the_scope(acme: World) -> None:
    task = failed(submitted(acme.acme, by="user:alice"))
    waiting = submitted(acme.acme, by="user:alice")
    for path in (f"{TASKS}/{task.pk}/retry", f"{TASKS}/{waiting.pk}/cancel"):
        answer = acme.user("mia").post(path, {})
        assert answer.status_code == 403
        assert "tasks:admin" in answer.json()["detail"]


def test_an_operator_may_cancel_and_leaves_a_trail(acme: World) -> None:
    task = submitted(acme.acme)
    answer = acme.operator().post(f"{TASKS}/{task.pk}/cancel", {"reason": "too loud"})
    assert answer.json()["changed"] is True
    assert answer.json()["task"]["cancel_requested"]["by"] == "operator:root"
    entry = AuditEntry.objects.get(action="task.cancel")
    assert (entry.actor, entry.object, entry.reason) == (
        "operator:root",
        f"task:{task.pk}",
        "too loud",
    )


def test_the_first_cancel_of_a_running_task_changes_and_the_second_does_not(acme: World) -> None:
    task = submitted(acme.acme)
    running(task)
    caller = acme.token()
    first = caller.post(f"{TASKS}/{task.pk}/cancel", {"reason": "wrong branch"}).json()
    second = caller.send("POST", f"{TASKS}/{task.pk}/cancel").json()
    assert (first["changed"], second["changed"]) == (True, False)
    assert first["task"]["status"] == "running"
    assert first["task"]["cancel_requested"]["reason"] == "wrong branch"
    assert first["task"]["cancel_requested"]["by"] == "token:ci"
    assert second["task"]["cancel_requested"] == first["task"]["cancel_requested"]
    assert Inflight.objects.get(pk=task.pk).ask == "cancel"


def test_a_waiting_task_is_cancelled_at_once_without_a_reason(acme: World) -> None:
    task = submitted(acme.acme)
    answer = acme.token().send("POST", f"{TASKS}/{task.pk}/cancel").json()
    assert answer["changed"] is True
    assert answer["task"]["status"] == "cancelled"
    assert answer["task"]["status_reason"] == "user_cancelled"
    assert answer["task"]["cancel_requested"]["reason"] is None
    assert answer["task"]["finished_at"] is not None
    assert answer["task"]["started_at"] is None


def test_an_ended_task_cannot_be_cancelled(acme: World) -> None:
    task = ended(submitted(acme.acme))
    before = Event.objects.filter(task_id=task.pk).count()
    answer = acme.token().post(f"{TASKS}/{task.pk}/cancel", {})
    assert answer.status_code == 409
    assert answer.json()["code"] == "task_finished"
    assert answer.json()["task_status"] == "completed"
    assert Event.objects.filter(task_id=task.pk).count() == before


def test_force_needs_the_admin_scope_and_ends_what_cannot_be_cancelled(acme: World) -> None:
    task = submitted(acme.acme, "lint.mypy", by="user:mia")
    running(task)
    path = f"{TASKS}/{task.pk}/cancel"
    assert acme.user("mia").post(path, {}).json()["code"] == "not_cancellable"
    refused = acme.user("mia").post(path, {"force": True})
    assert (refused.status_code, refused.json()["required"]) == (403, "tasks:admin")
    forced = acme.user("adam").post(path, {"force": True})
    assert forced.status_code == 200, forced.content
    assert Inflight.objects.get(pk=task.pk).ask == "kill"


@pytest.mark.parametrize(
    "body", [{"reason": 7}, {"force": "yes"}, {"why": ""}, {"reason": "\u001b[31m"}]
)
@pytest.mark.parametrize("action", ["cancel", "retry"])
def test_a_wrong_action_body_is_refused(acme: World, action: str, body: Any) -> None:
    task = submitted(acme.acme)
    assert acme.token().post(f"{TASKS}/{task.pk}/{action}", body).status_code == 400


def test_a_retry_begins_a_new_life_and_keeps_the_old_runs(acme: World) -> None:
    task = failed(submitted(acme.acme))
    child = submitted(acme.acme, depends_on=(task.pk,))
    assert child.status == "cancelled"
    answer = acme.token().post(f"{TASKS}/{task.pk}/retry", {"reason": "fixed"})
    assert answer.status_code == 200, answer.content
    assert answer.json()["changed"] is True
    assert answer.json()["task"]["status"] == "queued"
    assert answer.json()["task"]["counts"]["failures"] == 0
    assert answer.json()["task"]["error"] is None
    child.refresh_from_db()
    assert child.status == "blocked"
    assert task.runs.count() == 1
    assert AuditEntry.objects.get(action="task.retry").reason == "fixed"


def test_what_has_not_failed_cannot_be_retried(acme: World) -> None:
    for task in (submitted(acme.acme), ended(submitted(acme.acme))):
        answer = acme.token().post(f"{TASKS}/{task.pk}/retry", {})
        assert (answer.status_code, answer.json()["code"]) == (409, "not_retryable")


def test_bulk_retry_takes_the_oldest_first_and_never_what_a_user_cancelled(acme: World) -> None:
    old = [failed(submitted(acme.acme)) for _ in range(3)]
    stopped = cancel(submitted(acme.acme).pk, by="user:alice").task
    done = ended(submitted(acme.acme))
    failed(submitted(acme.other))
    caller = acme.token()
    path = f"{TASKS}/actions/retry"
    asked = {"filter": {"status": ["failed", "cancelled", "completed"]}, "limit": 2}
    dry = caller.post(path, {**asked, "dry_run": True}).json()
    assert dry == {"matched": 2, "changed": 0, "ids": [str(task.pk) for task in old[:2]]}
    wet = caller.post(path, asked).json()
    assert wet == {**dry, "changed": 2}
    for task in (*old, stopped, done):
        task.refresh_from_db()
    assert [task.status for task in old] == ["queued", "queued", "failed"]
    assert (stopped.status, done.status) == ("cancelled", "completed")
    assert AuditEntry.objects.get(action="task.retry_many").data["tasks"] == wet["ids"]
    rest = caller.post(path, {"filter": {}}).json()
    assert rest == {"matched": 1, "changed": 1, "ids": [str(old[2].pk)]}


def test_bulk_cancel_touches_only_what_the_caller_may_change(acme: World) -> None:
    hers = submitted(acme.acme, by="user:mia")
    his = submitted(acme.acme, by="user:adam")
    path = f"{TASKS}/actions/cancel"
    answer = acme.user("mia").post(path, {"filter": {}}).json()
    assert answer == {"matched": 1, "changed": 1, "ids": [str(hers.pk)]}
    answer = acme.user("adam").post(path, {"filter": {"type": "test.*"}, "reason": "all"}).json()
    assert answer["ids"] == [str(his.pk)]
    assert acme.user("bob").post(path, {"filter": {}}).status_code == 403


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/filter"),
        ({"filter": "status=failed"}, "/filter"),
        ({"filter": {"state": "failed"}}, "/filter/state"),
        ({"filter": {"status": "done"}}, "/filter/status"),
        ({"filter": {"status": 7}}, "/filter/status"),
        ({"filter": {"limit": "3"}}, "/filter/limit"),
        ({"filter": {}, "limit": 0}, "/limit"),
        ({"filter": {}, "limit": 10_001}, "/limit"),
        ({"filter": {}, "dry_run": None}, "/dry_run"),
    ],
)
def test_a_wrong_bulk_body_is_refused_at_its_pointer(acme: World, body: Any, pointer: str) -> None:
    answer = acme.token().post(f"{TASKS}/actions/cancel", body)
    assert answer.status_code == 400, answer.content
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]


def test_usage_mirrors_the_limits_with_what_there_is(acme: World) -> None:
    submitted(acme.acme, queue="critical")
    submitted(acme.acme)
    running(submitted(acme.acme))
    submitted(acme.other)
    used = acme.token().get("/api/v1/tenants/acme/usage").json()
    assert used == {
        "running": 1,
        "queued": 2,
        "queues": {
            "critical": {"running": 0, "queued": 1},
            "normal": {"running": 1, "queued": 1},
            "batch": {"running": 0, "queued": 0},
        },
    }
    limits = acme.token().get("/api/v1/tenants/acme/limits").json()
    assert set(used["queues"]) == set(limits["queues"])


def test_task_types_tell_what_they_take(acme: World) -> None:
    caller = acme.token()
    page = caller.get("/api/v1/tenants/acme/task-types").json()
    assert [row["name"] for row in page["results"]] == ["lint.mypy", "lint.ruff", "test.dummy"]
    one = caller.get("/api/v1/tenants/acme/task-types/lint.ruff").json()
    assert one["queue"] == "critical"
    assert one["cancellable"] is True
    assert one["params_schema"]["properties"]["seconds"]["minimum"] == 0
    for name in ("no.such", "%00", "lint.ruff%00", "lint.ruff%0a", "lint.ruff%2f"):
        assert caller.get(f"/api/v1/tenants/acme/task-types/{name}").status_code == 404


def test_an_id_in_capitals_is_the_same_task(acme: World) -> None:
    task = submitted(acme.acme)
    answer = acme.token().get(f"{TASKS}/{str(task.pk).upper()}")
    assert answer.json()["id"] == str(task.pk)
    assert uuid.UUID(answer.json()["id"]) == task.pk
