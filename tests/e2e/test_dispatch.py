"""Order, limits and reasons for waiting, seen from outside."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from tests.e2e.platforms import Platform
from tests.e2e.work import Json, Work

Limiter = Callable[..., None]


@pytest.fixture
def limited(work: Work, platform: Platform) -> Iterator[Limiter]:
    """Set limits of the first tenant, and take them away afterwards."""

    def put(**limits: object) -> None:
        with platform.operator() as operator:
            path = f"tenants/{platform.tenant}/limits"
            answer = operator.get(path)
            headers = {"If-Match": answer.headers["ETag"]} if "ETag" in answer.headers else {}
            answer = operator.put(path, json=limits, headers=headers)
            assert answer.status_code == 200, answer.text

    yield put
    put(
        running=None,
        queued=None,
        submit_per_second=None,
        queues={"normal": {"running": None, "queued": None}},
    )


def started_order(work: Work, tasks: list[Json]) -> list[int]:
    done = [work.end_of(task) for task in tasks]
    return sorted(range(len(done)), key=lambda index: str(done[index]["started_at"]))


def test_higher_priorities_go_first_and_equal_ones_in_order(work: Work, limited: Limiter) -> None:
    limited(queues={"normal": {"running": 1}})
    blocker = work.submit(params={"seconds": 1.5})
    work.until(blocker, "running")
    tasks = [work.submit(params={}, priority=priority) for priority in (0, 1, 1, 0)]
    assert started_order(work, tasks) == [1, 2, 0, 3]


def test_a_running_limit_holds_at_every_sample_and_all_complete(work: Work, limited: Limiter) -> None:
    limited(running=2)
    tasks = [work.submit(params={"seconds": 0.5}, queue=queue) for queue in ("normal", "critical") * 3]
    most, waiting = 0, set()
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline:
        page = work.get("tasks", status="running", limit=200)
        most = max(most, len(page["results"]))
        now = [work.task(task) for task in tasks]
        waiting |= {each["waiting_for"]["reason"] for each in now if each["status"] == "queued"}
        if all(each["status"] == "completed" for each in now):
            break
    assert all(work.task(task)["status"] == "completed" for task in tasks)
    assert most <= 2
    assert "quota" in waiting


def test_a_queued_limit_refuses_with_its_name_and_a_time(work: Work, limited: Limiter) -> None:
    limited(queues={"normal": {"running": 1, "queued": 2}})
    running = work.submit(params={"seconds": 3})
    work.until(running, "running")
    waiting = [work.submit(params={}) for _ in range(2)]
    answer = work.http.post("tasks", json={"type": "test.dummy", "params": {}})
    assert (answer.status_code, answer.json()["code"]) == (429, "queued_limit")
    assert int(answer.headers["Retry-After"]) >= 1
    for task in (running, *waiting):
        assert work.end_of(task)["status"] == "completed"
    assert work.end_of(work.submit(params={}))["status"] == "completed"


def test_a_child_runs_after_its_parent(work: Work) -> None:
    parent = work.submit(params={"seconds": 0.5})
    child = work.submit(params={}, depends_on=[parent["id"]])
    assert (child["status"], child["waiting_for"]["reason"]) == ("blocked", "parents")
    assert work.end_of(child)["status"] == "completed"
    assert work.task(parent)["finished_at"] <= work.task(child)["started_at"]


def test_a_task_for_later_does_not_start_before_its_time(work: Work) -> None:
    at = datetime.now(UTC) + timedelta(seconds=3)
    task = work.submit(params={}, scheduled_for=at.isoformat())
    assert (task["status"], task["waiting_for"]["reason"]) == ("scheduled", "schedule")
    done = work.end_of(task)
    assert datetime.fromisoformat(done["started_at"]) >= at
    assert datetime.fromisoformat(done["created_at"]) < at
