"""Requests that are allowed and seldom made: unusual states, unusual moments, values at their limit."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db.models.functions import Now

from tasks.models import Inflight, Later, Parked, Ready, Task
from tasks.outcomes import Outcome
from tasks.services.cancel import cancel
from tasks.services.finish import finish
from tasks.services.release import due
from tasks.states import RunStatus
from tests.tasks.api.work import ended, failed, running, submitted
from tests.tenants.callers import World

TASKS = "/api/v1/tenants/acme/tasks"
AT_ONCE = {"delay": 0, "factor": 1, "max_delay": 1, "jitter": 0}
LATER = {"delay": 300, "factor": 1, "max_delay": 300, "jitter": 0}
BROKEN = {"code": "broken", "message": "it broke", "type": "ValueError"}


def post(acme: World, task: Task, action: str, body: Any = None, *, status: int = 200) -> Any:
    answer = acme.token().post(f"{TASKS}/{task.pk}/{action}", body or {})
    assert answer.status_code == status, answer.content
    return answer.json()


def waits_for_a_retry(task: Task) -> Task:
    """Let an attempt fail that is tried again much later."""
    claimed = running(task)
    finish(task.pk, claimed.epoch, Outcome(RunStatus.FAILED, error=BROKEN))
    task.refresh_from_db()
    assert task.status == "retry_wait"
    return task


def timed_out(task: Task) -> Task:
    """Let the queue timeout of a task pass."""
    Later.objects.filter(task_id=task.pk, what="queue_timeout").update(due_at=Now() - timedelta(1))
    assert due(task.pk, "queue_timeout")
    task.refresh_from_db()
    return task


# -- cancel -----------------------------------------------------------------------------------------


def test_a_reason_may_have_a_thousand_characters_and_no_more(acme: World) -> None:
    task = submitted(acme.acme)
    refused = post(acme, task, "cancel", {"reason": "x" * 1001}, status=400)
    assert refused["errors"][0]["pointer"] == "/reason"
    task.refresh_from_db()
    assert task.status == "queued"
    asked = post(acme, task, "cancel", {"reason": "x" * 1000})["task"]["cancel_requested"]
    assert asked["reason"] == "x" * 1000


def test_force_ends_what_waits_like_any_cancel_and_once_only(acme: World) -> None:
    task = submitted(acme.acme, "lint.mypy")  # not cancellable, but it has not started
    assert post(acme, task, "cancel", {"force": True})["task"]["status"] == "cancelled"
    assert post(acme, task, "cancel", {"force": True}, status=409)["code"] == "task_finished"


def test_force_after_a_cancel_kills_and_changes_neither_caller_nor_reason(acme: World) -> None:
    task = submitted(acme.acme)
    running(task)
    first = post(acme, task, "cancel", {"reason": "first"})
    forced = acme.user("adam").post(f"{TASKS}/{task.pk}/cancel", {"force": True, "reason": "second"})
    assert (first["changed"], forced.json()["changed"]) == (True, False)
    assert forced.json()["task"]["cancel_requested"] == first["task"]["cancel_requested"]
    assert Inflight.objects.get(pk=task.pk).ask == "kill"


def test_a_published_task_that_is_cancelled_gives_its_slot_back(acme: World) -> None:
    task = submitted(acme.acme)
    row = Ready.objects.get(pk=task.pk)
    Ready.objects.all().delete()
    Inflight.objects.create(
        task_id=task.pk,
        queue="normal",
        tenant_id=task.tenant_id,
        rank=0,
        ordinal=row.ordinal,
        type_id=row.type_id,
        epoch=1,
        token="t",
        state="dispatched",
        lease_until=Now(),
    )
    assert post(acme, task, "cancel")["task"]["status"] == "cancelled"
    assert not Inflight.objects.exists()


def test_the_child_of_a_cancelled_parent_runs_if_it_says_so(acme: World) -> None:
    parent = submitted(acme.acme)
    anyway = submitted(acme.acme, depends_on=(parent.pk,), on_parent_failure="run")
    child = submitted(acme.acme, depends_on=(parent.pk,))
    post(acme, parent, "cancel")
    for task, status in ((anyway, "queued"), (child, "cancelled")):
        task.refresh_from_db()
        assert task.status == status


# -- retry ------------------------------------------------------------------------------------------


def test_a_dropped_task_can_be_tried_again_and_has_its_deadline_anew(acme: World) -> None:
    task = timed_out(submitted(acme.acme, queue_timeout=60))
    assert (task.status, task.status_reason) == ("dropped", "queue_timeout")
    again = post(acme, task, "retry")["task"]
    assert (again["status"], again["attempt"]) == ("queued", 0)
    assert again["deadline_at"] > again["queued_at"]
    assert again["finished_at"] is None
    assert timed_out(task).status == "dropped"


def test_a_cancelled_task_that_is_tried_again_is_not_cancelled_any_more(acme: World) -> None:
    task = submitted(acme.acme)
    post(acme, task, "cancel", {"reason": "not now"})
    assert post(acme, task, "retry")["task"]["cancel_requested"] is None
    done = ended(Task.objects.get(pk=task.pk), RunStatus.FAILED, error=BROKEN)
    assert done.status == "retry_wait"


def test_what_runs_waits_or_comes_back_by_itself_is_not_retried(acme: World) -> None:
    live = submitted(acme.acme)
    running(live)
    for task in (live, waits_for_a_retry(submitted(acme.acme, retry=LATER)), submitted(acme.acme)):
        before = task.status
        assert post(acme, task, "retry", status=409)["code"] == "not_retryable"
        task.refresh_from_db()
        assert task.status == before


def test_in_maintenance_new_tasks_wait_outside_and_accepted_ones_can_be_retried(acme: World) -> None:
    task = failed(submitted(acme.acme))
    acme.operator().send("PUT", "/api/v1/operator/maintenance", {"enabled": True})
    assert acme.token().post(TASKS, {"type": "test.dummy"}).json()["code"] == "maintenance"
    assert post(acme, task, "retry")["task"]["status"] == "queued"
    assert post(acme, task, "cancel")["task"]["status"] == "cancelled"


def test_an_attempt_that_takes_too_long_counts_as_a_failure_and_is_tried_again(acme: World) -> None:
    task = submitted(acme.acme, max_retries=1, retry=AT_ONCE, time_limit=5)
    error = {"code": "timed_out", "message": "too long"}
    assert ended(task, RunStatus.TIMED_OUT, error=error).status == "retry_wait"
    Later.objects.filter(task_id=task.pk).update(due_at=Now())
    assert due(task.pk, "retry")
    ended(Task.objects.get(pk=task.pk), RunStatus.TIMED_OUT, error=error)
    shown = acme.token().get(f"{TASKS}/{task.pk}").json()
    assert (shown["status"], shown["status_reason"]) == ("failed", "max_retries_exceeded")
    assert [run["status"] for run in shown["runs"]] == ["timed_out", "timed_out"]
    assert shown["error"]["code"] == "timed_out"


# -- graphs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["the good side first", "the bad side first"])
@pytest.mark.parametrize(("anyway", "status"), [("cancel", "cancelled"), ("run", "queued")])
def test_a_diamond_with_one_bad_side_ends_the_same_in_any_order(
    acme: World, order: str, anyway: str, status: str
) -> None:
    top = submitted(acme.acme)
    good, bad = (submitted(acme.acme, depends_on=(top.pk,)) for _ in range(2))
    foot = submitted(acme.acme, depends_on=(good.pk, bad.pk), on_parent_failure=anyway)
    below = submitted(acme.acme, depends_on=(foot.pk,))
    ended(top)
    sides = [lambda: ended(Task.objects.get(pk=good.pk)), lambda: failed(Task.objects.get(pk=bad.pk))]
    if order == "the bad side first":
        sides.reverse()
    for side in sides:
        side()
    for task in (foot, below):
        task.refresh_from_db()
    assert foot.status == status
    assert foot.started_at is None
    if anyway == "cancel":
        assert (foot.status_reason, below.status_reason) == ("parent_failed", "parent_cancelled")
    else:
        assert below.status == "blocked"


def test_a_child_whose_time_in_line_is_over_is_dropped_while_its_parent_runs(acme: World) -> None:
    parent = submitted(acme.acme)
    running(parent)
    child = submitted(acme.acme, depends_on=(parent.pk,), queue_timeout=60)
    below = submitted(acme.acme, depends_on=(child.pk,))
    assert child.status == "blocked"
    assert (timed_out(child).status, child.status_reason) == ("dropped", "queue_timeout")
    below.refresh_from_db()
    assert (below.status, below.status_reason) == ("cancelled", "parent_dropped")
    parent.refresh_from_db()
    assert parent.status == "running"


def test_a_parent_that_is_named_twice_is_one_parent(acme: World) -> None:
    parent = submitted(acme.acme)
    twice = {"type": "test.dummy", "depends_on": [str(parent.pk)] * 2}
    child = acme.token().post(TASKS, twice).json()
    assert child["depends_on"] == [str(parent.pk)]
    assert acme.token().get(f"{TASKS}/{child['id']}").json()["depends_on"] == child["depends_on"]
    ended(parent)
    assert Task.objects.get(pk=child["id"]).status == "queued"


def test_a_task_waits_for_a_parent_that_waits_for_its_retry(acme: World) -> None:
    parent = waits_for_a_retry(submitted(acme.acme, retry=LATER))
    child = submitted(acme.acme, depends_on=(parent.pk,))
    assert child.status == "blocked"
    cancel(parent.pk, by="user:bob")
    child.refresh_from_db()
    assert (child.status, child.status_reason) == ("cancelled", "parent_cancelled")


# -- keys -------------------------------------------------------------------------------------------


def test_who_replaces_a_task_that_waits_for_its_retry_ends_it_and_starts(acme: World) -> None:
    first = waits_for_a_retry(submitted(acme.acme, key="k", retry=LATER))
    body = {"type": "test.dummy", "key": "k", "key_policy": "replace"}
    second = acme.token().post(TASKS, body).json()
    first.refresh_from_db()
    assert (first.status, first.status_reason) == ("cancelled", "replaced")
    assert second["status"] == "queued"
    assert Ready.objects.filter(pk=second["id"]).exists()
    assert not Later.objects.filter(task_id=first.pk).exists()


def test_who_queues_behind_a_task_that_waits_for_its_retry_waits_as_well(acme: World) -> None:
    first = waits_for_a_retry(submitted(acme.acme, key="k", retry=LATER))
    body = {"type": "test.dummy", "key": "k", "key_policy": "queue"}
    second = acme.token().post(TASKS, body).json()
    assert Parked.objects.get(pk=second["id"]).key == "k"
    shown = acme.token().get(f"{TASKS}/{second['id']}").json()
    assert shown["waiting_for"]["reason"] == "key"
    first.refresh_from_db()
    assert first.status == "retry_wait"
