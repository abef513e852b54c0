"""What users and operators do and see, through the public interface of a whole platform.

What the other files of this folder show already is not shown again here.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

from tests.e2e.platforms import Platform
from tests.e2e.work import Json, Work

AT_ONCE = {"delay": 0, "factor": 1, "jitter": 0}
LATER = {"delay": 300, "factor": 2, "max_delay": 500, "jitter": 0.1}
FAILS: dict[str, Any] = {"params": {"fail": "broken"}, "max_retries": 0}


@pytest.fixture(scope="module")
def other(platform: Platform) -> Iterator[Work]:
    """A second tenant's client."""
    with platform.operator() as operator:
        made = operator.post("operator/tenants", json={"slug": "scenarios", "name": "Scenarios"})
        assert made.status_code == 201, made.text
        body = {"name": "ci", "scopes": ["*"]}
        token = operator.post("tenants/scenarios/tokens", json=body).json()["token"]
    work = Work(platform)
    work.http = httpx2.Client(
        base_url=f"{platform.url}/api/v1/tenants/scenarios/",
        headers={"Authorization": f"Bearer {token}"},
        timeout=60,
        trust_env=False,
    )
    yield work
    work.http.close()


def cancel(work: Work, task: Json, **body: Any) -> Json:
    return work.post(f"tasks/{task['id']}/cancel", **body)


# -- A: submit and read ------------------------------------------------------------------------------


def test_a_submission_is_answered_with_what_it_became(work: Work, platform: Platform) -> None:
    body = {
        "type": "test.dummy",
        "params": {"seconds": 0.1, "stdout": "as submitted"},
        "queue": "batch",
        "priority": 7,
        "labels": {"scenario": "a1"},
        "key": "scenario-a1",
        "key_policy": "queue",
        "on_parent_failure": "run",
        "max_retries": 2,
        "retry": {
            "delay": 1,
            "factor": 3,
            "max_delay": 9,
            "jitter": 0.5,
            "retry_on": ["busy"],
            "never_on": ["ValueError"],
        },
        "idempotent": False,
        "preemptible": True,
        "time_limit": 77,
        "queue_timeout": 300,
        "limits": {"memory_mb": 512},
    }
    before = datetime.now(UTC)
    answer = work.http.post("tasks", json=body, headers={"X-Request-ID": "scenario-a1"})
    assert (answer.status_code, answer.headers["X-Request-ID"]) == (201, "scenario-a1")
    task = answer.json()
    assert str(uuid.UUID(task["id"])) == task["id"]
    assert (task["status"], task["tenant"]) == ("queued", platform.tenant)
    assert (task["started_at"], task["finished_at"]) == (None, None)
    created = datetime.fromisoformat(task["created_at"])
    assert abs((created - before).total_seconds()) < 30
    deadline = datetime.fromisoformat(task["deadline_at"])
    assert abs((deadline - created).total_seconds() - 300) < 1
    assert task["submitted_by"].startswith("token:")
    assert answer.headers["Location"] == task["links"]["self"]
    assert task["links"]["self"].endswith(f"/tasks/{task['id']}")
    assert work.events(task)[0]["data"]["request_id"] == "scenario-a1"
    shown = work.task(task)
    assert {name: shown[name] for name in body} == body
    for name in (*(body.keys() & task.keys()), "id", "tenant", "submitted_by", "created_at"):
        assert task[name] == shown[name]


@pytest.mark.parametrize(
    ("body", "code", "pointer"),
    [
        ({"type": "no.such.type"}, "unknown_task_type", None),
        ({"type": "test.dummy", "params": {"seconds": -1}}, "bad_params", "/params/seconds"),
    ],
)
def test_a_wrong_submission_is_told_what_is_wrong_and_stores_nothing(
    work: Work, body: Json, code: str, pointer: str | None
) -> None:
    refused = work.http.post("tasks", json={**body, "labels": {"scenario": "refused"}})
    assert (refused.status_code, refused.json()["code"]) == (400, code)
    if pointer:
        assert [error["pointer"] for error in refused.json()["errors"]] == [pointer]
    assert work.get("tasks", label="scenario=refused")["results"] == []


def test_in_maintenance_submissions_are_put_off_and_reads_work(work: Work, platform: Platform) -> None:
    with platform.operator() as operator:
        stopped = operator.put("operator/maintenance", json={"enabled": True, "reason": "scenario"})
        assert stopped.status_code == 200
        try:
            refused = work.http.post("tasks", json={"type": "test.dummy"})
            assert (refused.status_code, refused.json()["code"]) == (503, "maintenance")
            assert int(refused.headers["Retry-After"]) > 0
            assert work.get("tasks")["results"] is not None
        finally:
            operator.put("operator/maintenance", json={"enabled": False})
    work.submit(params={})


def test_a_key_is_taken_while_its_task_is_active_in_its_own_tenant(work: Work, other: Work) -> None:
    first = work.submit(
        params={"fail_times": 1}, key="scenario", retry={**AT_ONCE, "delay": 2, "max_delay": 2}
    )
    for waits in (False, True):
        if waits:
            work.until(first, "retry_wait")
        taken = work.submit(key="scenario", expect=409)
        assert taken["code"] == "key_conflict"
        assert first["id"] in str(taken)
    other.submit(key="scenario", params={})
    assert work.end_of(first)["status"] == "completed"
    work.submit(key="scenario", params={})


# -- C: dependencies ---------------------------------------------------------------------------------


def test_what_waits_for_a_failed_task_never_starts_however_late_it_was_added(work: Work) -> None:
    parent = work.submit(**FAILS, scheduled_for=soon(1))
    early = work.submit(depends_on=[parent["id"]])
    assert early["status"] == "blocked"
    assert work.end_of(parent)["status"] == "failed"
    late = work.submit(depends_on=[parent["id"]])
    for child in (work.end_of(early), late):
        assert (child["status"], child["status_reason"]) == ("cancelled", "parent_failed")
        assert (child["started_at"], child["attempt"]) == (None, 0)


def test_a_cancel_passes_through_the_graph_however_late_a_child_was_added(work: Work) -> None:
    parent = work.submit(scheduled_for=soon(600))
    child = work.submit(depends_on=[parent["id"]])
    grandchild = work.submit(depends_on=[child["id"]])
    cancel(work, parent)
    late = work.submit(depends_on=[parent["id"]])
    for task in (work.task(child), work.task(grandchild), late):
        assert (task["status"], task["status_reason"]) == ("cancelled", "parent_cancelled")
        assert task["finished_at"]


def test_a_retried_parent_that_completes_lets_its_child_run(work: Work) -> None:
    parent = work.submit(params={"fail_times": 1}, max_retries=0)
    child = work.submit(depends_on=[parent["id"]], params={"result": {"ran": True}})
    assert work.end_of(parent)["status"] == "failed"
    assert work.task(child)["status_reason"] == "parent_failed"
    work.post(f"tasks/{parent['id']}/retry")
    assert work.end_of(parent)["status"] == "completed"
    done = work.end_of(child)
    assert (done["status"], done["result"], done["attempt"]) == ("completed", {"ran": True}, 1)


def test_a_task_cannot_wait_for_what_is_not_there_or_not_its_tenants(work: Work, other: Work) -> None:
    foreign = other.submit(params={})
    unknown = "00000000-0000-7000-8000-000000000000"
    for parent in (foreign["id"], unknown):
        refused = work.submit(depends_on=[parent], expect=400)
        assert refused["code"] == "bad_dependency"
        assert refused["errors"][0]["pointer"] == "/depends_on/0"
    # An id is given by the platform, so a task can name neither itself nor one that comes after it.
    work.submit(id=unknown, depends_on=[unknown], expect=400)


# -- D: end, errors, output --------------------------------------------------------------------------


def test_an_error_is_told_short_in_the_task_and_whole_in_the_log(work: Work) -> None:
    message = "x" * 5000 + "the end"
    task = work.submit(params={"fail": message}, max_retries=0)
    done = work.end_of(task)
    error = done["error"]
    assert (done["status"], error["code"], error["type"]) == ("failed", "handler_error", "RuntimeError")
    assert len(error["message"]) == 4000
    assert done["runs"][0]["error"] == error
    told = work.texts(task, stream="stderr")
    assert any("Traceback" in text for text in told)
    assert message in "".join(told)


# -- E: cancel ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", ["", "not needed any more"])
def test_a_cancel_is_kept_with_its_caller_and_its_reason(work: Work, reason: str) -> None:
    task = work.submit(params={"seconds": 60, "steps": 600})
    work.until(task, "running")
    body = {"reason": reason} if reason else {}
    assert [cancel(work, task, **body)["changed"], cancel(work, task)["changed"]] == [True, False]
    done = work.end_of(task)
    asked = done["cancel_requested"]
    assert (done["status"], asked["reason"] or "") == ("cancelled", reason)
    assert done["created_at"] < done["started_at"] < asked["at"] < done["finished_at"]
    (noted,) = [event for event in work.events(task) if event["data"].get("cancel_requested")]
    assert noted["data"]["by"] == asked["by"] == done["submitted_by"]


def test_whatever_waits_is_cancelled_at_once_and_never_started(work: Work) -> None:
    failing = work.submit(params={"fail": True}, max_retries=3, retry=LATER)
    scheduled = work.submit(scheduled_for=soon(600))
    blocked = work.submit(depends_on=[scheduled["id"]])
    allocated = work.submit(inputs=["a"])
    work.until(failing, "retry_wait")
    for task, attempts in ((blocked, 0), (scheduled, 0), (allocated, 0), (failing, 1)):
        answer = cancel(work, task)
        now = answer["task"]
        assert (answer["changed"], now["status"], now["attempt"]) == (True, "cancelled", attempts)
        assert now["finished_at"]
        assert now["status_reason"] == "user_cancelled"
        assert len(work.task(task)["runs"]) == attempts
        if not attempts:
            assert now["started_at"] is None


def test_what_is_in_line_is_cancelled_at_once_and_never_started(work: Work, other: Work) -> None:
    with work.platform.operator() as operator:
        path = "tenants/scenarios/limits"
        tag = operator.get(path).headers["ETag"]
        operator.put(path, json={"running": 0}, headers={"If-Match": tag})
        try:
            task = other.submit(params={})
            assert task["status"] == "queued"
            assert cancel(other, task)["task"]["status"] == "cancelled"
        finally:
            tag = operator.get(path).headers["ETag"]
            operator.put(path, json={"running": None}, headers={"If-Match": tag})
    assert other.end_of(other.submit(params={}))["status"] == "completed"
    assert other.task(task)["runs"] == []


def test_what_has_ended_cannot_be_cancelled_and_stays_as_it_is(work: Work) -> None:
    stopped = work.submit(scheduled_for=soon(600))
    cancel(work, stopped)
    for task in (work.submit(params={}), work.submit(**FAILS), stopped):
        before = work.end_of(task)
        refused = cancel(work, task, expect=409)
        assert refused["code"] == "task_finished"
        assert before["status"] in refused["detail"]
        after = work.task(task)
        assert {**after, "consumed": None} == {**before, "consumed": None}


def test_a_handler_that_fails_after_a_cancel_is_not_tried_again(work: Work) -> None:
    params = {"seconds": 1, "ignore_cancel": True, "ignore_sigterm": True, "fail": "late"}
    task = work.submit(params=params, max_retries=3, retry=AT_ONCE)
    work.until(task, "running")
    assert cancel(work, task)["changed"]
    done = work.end_of(task)
    assert done["status"] in ("failed", "cancelled")
    assert len(done["runs"]) == 1
    assert done["next_retry_at"] is None


def test_a_cancelled_command_cleans_up_once_and_leaves_nothing(work: Work) -> None:
    script = (
        "trap 'rm export.part; echo cleaned; exit 1' TERM; "
        "echo half > export.part; echo ready; while :; do sleep 0.05; done"
    )
    task = work.submit("shell.command", params={"command": script, "artifacts": ["export*"]})
    deadline = time.monotonic() + 30
    while "ready" not in work.texts(task):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    cancel(work, task)
    assert work.end_of(task)["status"] == "cancelled"
    assert work.texts(task, stream="stdout") == ["ready", "cleaned"]
    assert work.get(f"tasks/{task['id']}/artifacts")["results"] == []


# -- F: retry, loss ----------------------------------------------------------------------------------


def test_between_attempts_a_task_says_when_the_next_one_comes(work: Work) -> None:
    task = work.submit(params={"fail": True}, max_retries=3, retry=LATER)
    waits = work.until(task, "retry_wait")
    ended = datetime.fromisoformat(waits["runs"][0]["finished_at"])
    pause = (datetime.fromisoformat(waits["next_retry_at"]) - ended).total_seconds()
    assert 270 <= pause <= 330
    assert (waits["waiting_for"]["reason"], waits["counts"]["failures"]) == ("retry", 1)
    cancel(work, task)


def test_what_is_not_to_be_tried_again_has_one_run(work: Work) -> None:
    named = work.submit(
        params={"fail": "no", "error_code": "bad_input"}, retry={**AT_ONCE, "never_on": ["bad_input"]}
    )
    killed = work.submit(params={"signal": "KILL"}, max_retries=3, retry=AT_ONCE)
    # Who does not ask for retries has none where the task, or the type, is not idempotent.
    once = work.submit(params={"fail": "no"}, idempotent=False, retry=AT_ONCE)
    command = work.shell("false", retry=AT_ONCE)
    assert [task["max_retries"] for task in (named, once, command)] == [3, 0, 0]
    for task in (named, killed, once, command):
        done = work.end_of(task)
        assert (done["status"], len(done["runs"]), done["counts"]["failures"]) == ("failed", 1, 1)


def test_who_submits_too_fast_is_told_when_to_come_back_and_then_may(work: Work, other: Work) -> None:
    with work.platform.operator() as operator:
        path = "tenants/scenarios/limits"
        tag = operator.get(path).headers["ETag"]
        operator.put(path, json={"submit_per_second": 1}, headers={"If-Match": tag})
        try:
            answers = [other.http.post("tasks", json={"type": "test.dummy"}) for _ in range(8)]
            refused = [answer for answer in answers if answer.status_code == 429]
            assert refused
            assert refused[-1].json()["code"] == "submit_rate"
            seconds = int(refused[-1].headers["Retry-After"])
            assert seconds >= 1
            time.sleep(seconds)
            other.submit(params={})
        finally:
            tag = operator.get(path).headers["ETag"]
            operator.put(path, json={"submit_per_second": None}, headers={"If-Match": tag})


def soon(seconds: float) -> str:
    """A time from now on, as the API takes it."""
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()
