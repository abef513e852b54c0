"""`switchyard drain`: a worker is replaced in mid-run, and nothing is lost by it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psycopg

from tests.conftest import Eventually
from tests.e2e.platforms import Platform
from tests.e2e.work import Work


def workers(platform: Platform, queue: str) -> list[dict[str, Any]]:
    with platform.operator() as operator:
        rows: list[dict[str, Any]] = operator.get(f"operator/workers?queue={queue}").json()["results"]
    return rows


def heartbeat(platform: Platform, worker: dict[str, Any]) -> dict[str, Any]:
    """What a worker says of itself once a second."""
    name = str(worker["name"]).split("@")[0]
    beat: dict[str, Any] = json.loads((platform.state / "service" / "workers" / name).read_text())
    return beat


def drain(platform: Platform, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "SWITCHYARD_URL": platform.url,
        "SWITCHYARD_TOKEN": str(platform.credentials["operator_token"]),
        "SWITCHYARD_TENANT": platform.tenant,
    }
    command = Path(sys.executable).with_name("switchyard")
    return subprocess.run(
        [str(command), "drain", *arguments, "--json"], env=environment, capture_output=True, text=True
    )


def test_a_drained_worker_finishes_what_it_runs_and_another_takes_its_place(
    platform: Platform, work: Work, eventually: Eventually
) -> None:
    eventually(lambda: len(workers(platform, "batch")) == 1, seconds=30)
    (old,) = workers(platform, "batch")
    # However long the successor takes to start: this ends when it is told to.
    script = "while [ ! -e go ]; do sleep 0.05; done; echo finished"
    task = work.submit("shell.command", params={"command": script}, queue="batch")
    work.until(task, "running")
    done = drain(platform, old["name"])
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["results"][0]["changed"] is True
    assert json.loads(drain(platform, old["id"]).stdout)["results"][0]["changed"] is False

    def both() -> bool:
        found = {row["id"]: row["status"] for row in workers(platform, "batch")}
        return len(found) == 2 and "alive" in found.values()

    eventually(both, seconds=30)
    drains_since: list[float] = []

    def was_told_to_stop() -> bool:
        drains_since[:] = [heartbeat(platform, old)["draining_since"]]
        return bool(drains_since[0])

    eventually(was_told_to_stop, seconds=60)
    seen_at = time.monotonic()
    (new,) = (row for row in workers(platform, "batch") if row["status"] == "alive")
    beat = heartbeat(platform, new)
    up_since = beat["monotonic"] - (beat["at"] - beat["started_at"])
    assert up_since < drains_since[0], "it was told to stop before its successor was there"
    while time.monotonic() < seen_at + 1:  # well within the drain
        assert work.task(task)["status"] == "running"
        time.sleep(0.1)
    (workspace,) = (platform.state / "workspaces").glob(f"{task['id']}-*")
    (workspace / "work" / "go").touch()
    ended = work.end_of(task)
    assert (ended["status"], ended["attempt"], ended["counts"]["restarts"]) == ("completed", 1, 0)
    assert work.texts(task, stream="stdout") == ["finished"]
    eventually(lambda: [row["status"] for row in workers(platform, "batch")] == ["alive"], seconds=30)
    assert [row["id"] for row in workers(platform, "batch")] == [new["id"]]
    assert work.end_of(work.submit(params={}, queue="batch"))["status"] == "completed"
    assert drain(platform, "nobody").returncode == 1
    assert drain(platform).returncode == 2


def test_a_planned_stop_ends_short_runs_gives_long_ones_back_and_leaves_the_line_alone(
    platform: Platform, work: Work
) -> None:
    long = work.submit(params={"seconds": 8}, queue="batch", max_retries=0)
    work.until(long, "running")
    # Shorter than SWITCHYARD_DRAIN; both slots are taken now.
    short = work.submit(params={"seconds": 1}, queue="batch", max_retries=0)
    work.until(short, "running")
    waiting = [work.submit(params={}, queue="batch", max_retries=0) for _ in range(3)]
    old = platform.signal("batch", signal.SIGTERM)
    given_back = work.until(long, "queued")
    assert given_back["status_reason"] == "shutdown"
    counts = given_back["counts"]
    assert (counts["restarts"], counts["failures"], counts["losses"]) == (1, 0, 0)
    ended = work.end_of(short)
    assert (ended["status"], ended["attempt"], ended["counts"]["restarts"]) == ("completed", 1, 0)
    platform.wait_for_another("batch", old, seconds=60)
    for task in waiting:
        done = work.end_of(task)
        assert (done["status"], done["attempt"], done["counts"]["restarts"]) == ("completed", 1, 0)
        states = [each["data"]["status"] for each in work.events(task) if each["kind"] == "state"]
        assert states == ["queued", "running", "completed"]
    done = work.end_of(long)
    assert (done["status"], done["attempt"], done["max_retries"]) == ("completed", 2, 0)


def test_five_rolling_restarts_during_one_long_task_and_it_completes(
    platform: Platform, work: Work, eventually: Eventually
) -> None:
    # Long enough for five drains (SWITCHYARD_DRAIN) and what is done before each; not much longer.
    params = {"seconds": 18, "steps": 90, "checkpoint": True, "result": {"done": True}}
    task = work.submit(params=params, queue="batch", idempotent=False, max_retries=0)
    done = 0.0

    def gets_on() -> bool:
        now = work.task(task)
        return bool(now["status"] == "running" and now["progress"]["percent"] > done)

    for restart in range(1, 6):
        eventually(gets_on, seconds=40)
        old = platform.signal("batch", signal.SIGTERM)
        given_back = work.until(task, "queued", "dispatched")
        assert (given_back["status_reason"], given_back["counts"]["restarts"]) == ("shutdown", restart)
        done = given_back["progress"]["percent"]
        platform.wait_for_another("batch", old)
    ended = work.end_of(task)
    assert (ended["status"], ended["result"], ended["attempt"]) == ("completed", {"done": True}, 6)
    counts = ended["counts"]
    assert (counts["restarts"], counts["failures"], counts["losses"]) == (5, 0, 0)
    steps = [each["data"]["step"] for each in work.events(task) if each["kind"] == "progress"]
    assert len(steps) == len(set(steps)), "a step was done twice"
    work.check_history(task)


def test_a_planned_stop_drops_what_its_type_says_and_tells_what_had_started(
    platform: Platform, work: Work
) -> None:
    # A type of an installed package says so in its decorator; the next start of the pools publishes
    # the built-in one as it is again.
    with psycopg.connect(str(platform.credentials["database_url"])) as connection:
        connection.execute("UPDATE task_type SET on_shutdown = 'drop' WHERE name = 'test.dummy'")
    started = [work.submit(params={"seconds": 60}, queue="batch") for _ in range(2)]
    for task in started:
        work.until(task, "running")
    waiting = work.submit(params={}, queue="batch")
    stays = work.shell("true", queue="batch")
    old = platform.signal("pools", signal.SIGTERM)
    for task, had_started in (*((each, True) for each in started), (waiting, False)):
        done = work.end_of(task)
        assert (done["status"], done["status_reason"]) == ("dropped", "shutdown")
        assert done["cancel_requested"] is None
        assert work.events(task)[-1]["data"]["started"] is had_started
        work.check_history(task)
    platform.wait_for_another("pools", old, seconds=60)
    assert work.end_of(stays)["status"] == "completed"
