"""What is left of a task when a process dies under it: a worker, a supervisor, the web process."""

from __future__ import annotations

import json
import os
import signal
import time

import httpx2
from websockets.sync.client import connect

from tests.conftest import Eventually
from tests.e2e.platforms import Platform
from tests.e2e.work import Json, Work

LEASE_AND_SCAN_SECONDS = 10.0


def test_a_cancelled_run_whose_supervisor_dies_ends_cancelled(work: Work) -> None:
    params = {"seconds": 60, "ignore_cancel": True, "ignore_sigterm": True}
    task = work.submit(params=params, max_retries=3)
    work.until(task, "running")
    pid = work.supervisor_of(task)
    os.kill(pid, signal.SIGSTOP)
    assert work.post(f"tasks/{task['id']}/cancel")["changed"]
    os.kill(pid, signal.SIGKILL)
    done = work.end_of(task, seconds=LEASE_AND_SCAN_SECONDS + 20)
    assert (done["status"], len(done["runs"])) == ("cancelled", 1)
    work.check_history(task)


def test_a_killed_worker_loses_its_run_and_another_one_completes_the_task(
    work: Work, platform: Platform
) -> None:
    task = work.submit(params={"seconds": 3}, queue="batch")
    work.until(task, "running")
    began = time.monotonic()
    old = platform.signal("batch")
    again = work.until(task, "queued", "completed", seconds=LEASE_AND_SCAN_SECONDS)
    assert time.monotonic() - began < LEASE_AND_SCAN_SECONDS
    assert again["runs"][0]["status"] == "lost"
    platform.wait_for_another("batch", old, seconds=60)
    done = work.end_of(task)
    assert [run["status"] for run in done["runs"]] == ["lost", "completed"]
    assert (done["status"], done["counts"]["losses"], done["counts"]["failures"]) == ("completed", 1, 0)
    states = [each["data"]["status"] for each in work.events(task) if each["kind"] == "state"]
    assert states == ["queued", "running", "queued", "running", "completed"]
    first, second = work.runs(task)
    assert first["worker"] != second["worker"]
    work.check_history(task)


def test_a_lost_task_that_is_not_idempotent_fails_and_who_waits_is_told(work: Work) -> None:
    task = work.submit(params={"seconds": 60}, idempotent=False)
    work.until(task, "running")
    began = time.monotonic()
    os.kill(work.supervisor_of(task), signal.SIGKILL)
    told = work.get(f"tasks/{task['id']}/wait", timeout=60)
    assert time.monotonic() - began < LEASE_AND_SCAN_SECONDS + 10
    assert (told["status"], told["status_reason"], told["attempt"]) == ("failed", "lost", 1)
    work.check_history(task)


def test_who_reconnects_after_a_restart_finds_the_same_task_and_its_progress(
    work: Work, platform: Platform, eventually: Eventually
) -> None:
    task = work.submit(params={"seconds": 24, "steps": 120}, queue="critical")
    address = task["links"]["websocket"]
    headers = {"Authorization": f"Bearer {platform.credentials['token']}"}
    seen: list[Json] = []

    def follow(after: int, *, until: str) -> Json:
        """Follow by WebSocket until an event of this kind, and return the snapshot."""
        with connect(f"{address}?after={after}", additional_headers=headers, proxy=None) as socket:
            snapshot: Json = json.loads(socket.recv(20))
            while True:
                frame: Json = json.loads(socket.recv(20))
                if frame["kind"] != "end":
                    seen.append(frame)
                if frame["kind"] == until:
                    return snapshot

    def is_back() -> bool:
        try:
            return work.http.get(f"{platform.url}/health/ready").status_code == 200
        except httpx2.TransportError:
            return False

    follow(0, until="progress")
    before = work.task(task)["progress"]["percent"]
    assert before > 0
    old = platform.signal("web", signal.SIGTERM)
    platform.wait_for_another("web", old)
    eventually(is_back, seconds=30)
    polled = work.task(task)
    assert (polled["id"], polled["status"]) == (task["id"], "running")
    assert polled["progress"]["percent"] >= before
    snapshot = follow(seen[-1]["seq"], until="end")
    assert snapshot["task"]["progress"]["percent"] >= before
    done = work.end_of(task)
    assert (done["status"], done["attempt"]) == ("completed", 1)
    assert [frame["seq"] for frame in seen] == list(range(1, done["last_seq"] + 1))
