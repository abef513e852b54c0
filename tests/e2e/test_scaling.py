"""Pools that breathe, on a whole platform: growth, shrinkage, scaling by hand, killed workers."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ops.supervision.processes import children
from tests.conftest import Eventually
from tests.e2e.command import COMMAND, environment
from tests.e2e.platforms import MARKS, Platform, command_line, temporary_platform
from tests.e2e.work import Json, Work

__all__ = ["environment"]

CAPACITY = 5
IDLE = 4
RESTORED_SECONDS = 30.0
"""docs/scaling.md promises half of it on a machine that is not this busy."""

Scale = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def platform() -> Iterator[Platform]:
    """A platform whose three pools share a small capacity."""
    with temporary_platform(
        "scaling",
        SWITCHYARD_POOLS="critical=1..3,normal=1..3,batch=0..3",
        SWITCHYARD_CAPACITY=str(CAPACITY),
        SWITCHYARD_POOL_IDLE=str(IDLE),
    ) as running:
        yield running


@pytest.fixture
def scale(platform: Platform, environment: dict[str, str], tmp_path: Path) -> Iterator[Scale]:
    """Run `switchyard scale` as an operator; the bounds are as before after the test."""

    def run(*argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [COMMAND, "scale", *argv],
            env={**environment, "SWITCHYARD_TOKEN": str(platform.credentials["operator_token"])},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
        )

    yield run
    assert run("critical=0..3", "normal=0..3", "batch=0..3", "--detach").returncode == 0
    done = run("critical=1..3", "normal=1..3", "--timeout", "60")
    assert done.returncode == 0, done.stderr


def pools(platform: Platform) -> dict[str, Json]:
    with platform.operator() as operator:
        rows = operator.get("operator/pools").json()["results"]
    return {row["name"]: row for row in rows}


def component(platform: Platform, name: str) -> tuple[str, str]:
    with platform.operator() as operator:
        rows: list[Any] = operator.get("operator/status").json()["components"]
    (found,) = (row for row in rows if row["name"] == name)
    return found["status"], found["detail"]


def at_work(platform: Platform) -> int:
    """How many tasks run now, on all pools, also those of workers that drain."""
    return sum(row["busy"] for row in pools(platform).values())


def worker_processes(platform: Platform, queue: str) -> set[int]:
    return {pid for pid in children(platform.pid("pools")) if MARKS[queue] in command_line(pid)}


def test_a_pool_grows_for_what_waits_and_shrinks_when_it_is_idle(
    platform: Platform, work: Work, eventually: Eventually
) -> None:
    eventually(lambda: pools(platform)["normal"]["slots"] == 1, seconds=30)
    tasks = [work.submit(params={"seconds": 6}, queue="normal") for _ in range(5)]
    sizes: list[int] = []

    def has_grown() -> bool:
        row = pools(platform)["normal"]
        sizes.append(row["slots"])
        return bool(row["slots"] == 3)

    eventually(has_grown, seconds=60)
    assert sizes == sorted(sizes), "it grew and shrank at once"
    for task in tasks:
        ended = work.end_of(task)
        assert (ended["status"], ended["attempt"]) == ("completed", 1)

    def has_shrunk() -> None:
        row = pools(platform)["normal"]
        assert (row["slots"], row["target"], row["why"]) == (1, 1, f"idle for {IDLE} s")

    # It may have shrunk to the last busy slot while that task still ran: then it says so at first.
    eventually(has_shrunk, seconds=60)


def test_batch_takes_what_is_left_and_gives_it_back_when_its_tasks_have_ended(
    platform: Platform, work: Work, eventually: Eventually
) -> None:
    seconds = 15.0
    batch = [
        work.submit(params={"seconds": seconds}, queue="batch", idempotent=False, max_retries=0)
        for _ in range(3)
    ]
    for task in batch:
        work.until(task, "running", seconds=60)
    assert pools(platform)["batch"]["slots"] == 3
    critical = [work.submit(params={"seconds": 6}, queue="critical") for _ in range(3)]
    most = 0

    def all_done() -> bool:
        nonlocal most
        most = max(most, at_work(platform))
        return all(work.task(task)["status"] == "completed" for task in critical)

    # Its only slot serves them until batch tasks have ended; nothing of batch is interrupted.
    eventually(lambda: pools(platform)["batch"]["target"] == 1, seconds=30)
    eventually(all_done, seconds=90)
    assert most <= CAPACITY
    for task in batch:
        ended = work.end_of(task)
        counts = ended["counts"]
        assert (ended["status"], ended["attempt"]) == ("completed", 1)
        assert (counts["restarts"], counts["losses"], counts["preemptions"]) == (0, 0, 0)


def test_scaled_down_to_0_busy_workers_finish_first_and_it_shows(
    platform: Platform, work: Work, scale: Scale, eventually: Eventually
) -> None:
    assert scale("batch=0..2").returncode == 0
    # Longer than SWITCHYARD_DRAIN, and nothing that could be run again.
    tasks = [
        work.submit(params={"seconds": 12}, queue="batch", idempotent=False, max_retries=0)
        for _ in range(2)
    ]
    for task in tasks:
        work.until(task, "running", seconds=60)
    done = scale("batch=0")
    assert done.returncode == 0, done.stderr
    assert "batch becomes 0 slots" in done.stdout
    assert "finishing what they run" in done.stderr
    for task in tasks:
        now = work.task(task)
        assert (now["status"], now["attempt"]) == ("completed", 1), now
    assert component(platform, "pool batch")[0] == "degraded"
    assert "scaled to 0" in component(platform, "pool batch")[1]
    waits = work.submit(params={}, queue="batch")
    assert work.task(waits)["waiting_for"]["reason"] == "no_worker"
    refused = scale("critical=0")
    assert refused.returncode == 1
    assert "has a minimum of 1" in refused.stderr
    # Allowed to grow again, it wakes by itself for what waits, and goes back to sleep.
    assert scale("batch=0..2", "--detach").returncode == 0
    assert work.end_of(waits)["status"] == "completed"
    eventually(lambda: pools(platform)["batch"]["slots"] == 0, seconds=60)
    assert component(platform, "pool batch") == (
        "healthy",
        "It rests at 0 slots until a task waits.",
    )


def test_a_killed_worker_is_replaced_in_time_and_the_pool_has_its_size_again(
    platform: Platform, work: Work, scale: Scale, eventually: Eventually
) -> None:
    assert scale("normal=2").returncode == 0
    before = worker_processes(platform, "normal")
    task = work.submit(params={"seconds": 3}, queue="normal", idempotent=True)
    work.until(task, "running")
    old = platform.signal("normal")

    def restored() -> bool:
        now = worker_processes(platform, "normal")
        return len(now) == len(before) and old not in now and pools(platform)["normal"]["slots"] == 2

    eventually(restored, seconds=RESTORED_SECONDS)
    assert work.end_of(task)["status"] == "completed"


def test_scaling_is_all_or_nothing_and_its_outcome_is_told_as_json(
    platform: Platform, scale: Scale
) -> None:
    refused = scale("normal=2", "batch=5")
    assert refused.returncode == 1
    assert f"bears {CAPACITY} slots" in refused.stderr
    assert (pools(platform)["normal"]["min"], pools(platform)["normal"]["max"]) == (1, 3)
    done = scale("critical=1..2", "batch=1", "--json", "--timeout", "60")
    assert done.returncode == 0, done.stderr
    rows = {row["name"]: row for row in json.loads(done.stdout)["results"]}
    assert (rows["batch"]["min"], rows["batch"]["max"], rows["batch"]["slots"]) == (1, 1, 1)
    assert (rows["critical"]["min"], rows["critical"]["max"]) == (1, 2)
