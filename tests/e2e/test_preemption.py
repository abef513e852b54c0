"""Batch work under critical pressure, on a platform with one slot for each."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from tests.e2e.platforms import Platform, temporary_platform
from tests.e2e.work import Json, Work

STEPS = 40


@pytest.fixture(scope="module")
def platform() -> Iterator[Platform]:
    with temporary_platform("preempt", SWITCHYARD_POOLS="critical=1,normal=1,batch=1") as running:
        yield running


@pytest.fixture
def batch_run(work: Work) -> Json:
    """A long batch task that keeps checkpoints and may be preempted, in the middle of its work."""
    task = work.submit(
        params={"seconds": 20, "steps": STEPS, "checkpoint": True, "result": {"done": True}},
        queue="batch",
        preemptible=True,
        idempotent=False,
        max_retries=0,
    )
    work.until(task, "running", seconds=60)
    deadline = time.monotonic() + 30
    while work.task(task)["progress"]["percent"] < 5:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return task


def waited(task: Json) -> float:
    """From its submission to its start, in seconds."""
    started, created = (datetime.fromisoformat(task[name]) for name in ("started_at", "created_at"))
    return (started - created).total_seconds()


def test_a_critical_task_starts_while_batch_is_full_of_long_runs(work: Work) -> None:
    long = work.submit(params={"seconds": 60}, queue="batch")
    work.until(long, "running", seconds=60)
    urgent = work.end_of(work.submit(params={}, queue="critical"))
    assert waited(urgent) < 2
    assert work.task(long)["status"] == "running"
    assert work.http.post(f"tasks/{long['id']}/cancel", json={}).status_code == 200
    work.end_of(long)


def test_a_batch_run_makes_room_for_critical_work_and_goes_on_from_its_checkpoint(
    work: Work, batch_run: Json
) -> None:
    hog = work.submit(params={"seconds": 6}, queue="critical")
    work.until(hog, "running")
    urgent = work.submit(params={"seconds": 1}, queue="critical")
    left = work.until(batch_run, "queued")
    assert (left["status_reason"], left["counts"]["preemptions"]) == ("preempted", 1)
    urgent = work.end_of(urgent)
    assert (urgent["status"], urgent["queue"]) == ("completed", "critical")
    assert work.task(hog)["status"] == "running"
    assert waited(urgent) < 5
    done = work.end_of(batch_run)
    assert (done["status"], done["result"], done["attempt"]) == ("completed", {"done": True}, 2)
    assert done["counts"] == {"failures": 0, "losses": 0, "restarts": 0, "preemptions": 1}
    assert [run["status"] for run in done["runs"]] == ["preempted", "completed"]
    events = work.events(done)
    told = [(e["data"]["status"], e["data"]["reason"]) for e in events if e["kind"] == "state"]
    assert told == [
        ("queued", None),
        ("running", None),
        ("queued", "preempted"),
        ("running", None),
        ("completed", None),
    ]
    steps = [event["data"]["step"] for event in events if event["kind"] == "progress"]
    assert len(steps) == len(set(steps)), "a step was done twice"
    assert steps[-1] == f"step {STEPS} of {STEPS}"
    work.check_history(done)
    for task in (hog, urgent):
        work.check_history(work.end_of(task))


def test_without_pressure_a_batch_run_is_left_alone(work: Work, batch_run: Json) -> None:
    for _ in range(5):
        assert work.end_of(work.submit(params={}, queue="critical"))["status"] == "completed"
    done: dict[str, Any] = work.end_of(batch_run)
    assert (done["attempt"], done["counts"]["preemptions"]) == (1, 0)
