"""Nothing lost, nothing twice: real processes are killed while real work runs."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
import redis

from ops.supervision.processes import children
from tests.e2e.platforms import Platform, start_platform
from tests.e2e.work import Json, Work
from tests.processes import lives

QUEUES = ("critical", "normal", "batch")


@pytest.fixture(scope="module")
def platform() -> Iterator[Platform]:
    """A platform of its own: what happens to it here is nobody else's business."""
    folder = Path(tempfile.mkdtemp(prefix="switchyard-chaos-"))
    running = start_platform(folder / "state")
    try:
        yield running
    finally:
        running.stop()
        shutil.rmtree(folder, ignore_errors=True)


def submit_through_outages(work: Work, key: str, **body: object) -> Json:
    """Submit until it is accepted, with one Idempotency-Key, as a careful client does."""
    deadline = time.monotonic() + 150
    while time.monotonic() < deadline:
        try:
            answer = work.http.post(
                "tasks", json={"type": "test.dummy", **body}, headers={"Idempotency-Key": key}
            )
        except httpx2.HTTPError:
            time.sleep(0.1)
            continue
        if answer.status_code in (200, 201):
            found: Json = answer.json()
            return found
        assert answer.status_code == 503, answer.text
        time.sleep(0.1)
    raise AssertionError("the API did not come back")


def kill_something(platform: Platform, dice: random.Random) -> str:
    """Kill -9 a random worker child, main worker, the dispatcher or the web process."""
    what = dice.choice(["child", "child", "main", "dispatcher", "web"])
    with contextlib.suppress(AssertionError, OSError, ProcessLookupError, ValueError):
        if what == "child":
            main = platform.pid(dice.choice(QUEUES))
            victims = children(main)
            if victims:
                os.kill(dice.choice(victims), signal.SIGKILL)
        else:
            platform.signal(dice.choice(QUEUES) if what == "main" else what)
    return what


@pytest.mark.timeout(600)
def test_two_hundred_tasks_under_random_kills_all_end_once(platform: Platform, work: Work) -> None:
    seed = int(os.environ.get("CHAOS_SEED", random.randrange(10**6)))
    print(f"CHAOS_SEED={seed}")
    dice = random.Random(seed)
    over = threading.Event()
    kills: list[str] = []

    def trouble() -> None:
        while not over.wait(dice.uniform(0.8, 2.0)):
            kills.append(kill_something(platform, dice))

    trouble_maker = threading.Thread(target=trouble)
    trouble_maker.start()
    try:
        tasks = [
            submit_through_outages(
                work,
                f"chaos-{seed}-{number}",
                queue=QUEUES[number % 3],
                params={"seconds": dice.choice([0, 0, 0.1, 0.5]), "stdout": f"task {number}"},
                retry={"delay": 0.2, "factor": 1, "jitter": 0},
            )
            for number in range(200)
        ]
        assert len({task["id"] for task in tasks}) == 200
    finally:
        over.set()
        trouble_maker.join()
    ended = [work.end_of(task, seconds=240) for task in tasks]
    for number, task in enumerate(ended):
        work.check_history(task)
        # A child that is killed three times, or twice with its run, may end as lost or poison.
        if task["status"] == "completed":
            successes = [run for run in task["runs"] if run["status"] == "completed"]
            assert len(successes) == 1
            assert work.texts(task, run=successes[0]["attempt"], stream="stdout") == [f"task {number}"]
        else:
            assert task["status_reason"] in ("lost", "poison"), task
    completed = sum(task["status"] == "completed" for task in ended)
    print(f"{completed} of 200 completed under {len(kills)} kills")
    assert completed >= 190
    listed = work.get("usage")
    assert listed["running"] == 0
    assert listed["queued"] == 0


def test_a_flushed_broker_loses_nothing_and_runs_nothing_twice(platform: Platform, work: Work) -> None:
    if "amqp" in platform.credentials["broker_url"]:
        pytest.skip("FLUSHALL is Valkey's; RabbitMQ's queues are purged in another test")
    running = [work.submit(params={"seconds": 6, "stdout": "once"}, queue="normal") for _ in range(2)]
    running += [work.submit(params={"seconds": 6, "stdout": "once"}, queue="batch") for _ in range(2)]
    for task in running:
        work.until(task, "running")
    queued = [
        work.submit(params={"stdout": "once"}, queue=("normal", "batch")[number % 2])
        for number in range(50)
    ]
    broker = redis.Redis.from_url(platform.credentials["broker_url"])
    broker.flushall()
    broker.close()
    for task in (*running, *queued):
        done = work.end_of(task, seconds=180)
        assert (done["status"], len(done["runs"])) == ("completed", 1), done
        assert work.texts(task, stream="stdout") == ["once"]
        work.check_history(task)


def test_a_killed_supervisor_takes_its_handler_with_it_and_another_completes(
    platform: Platform, work: Work
) -> None:
    task = work.submit(params={"seconds": 4, "steps": 4})
    work.until(task, "running")
    with platform.operator() as operator:
        run = operator.get(f"tenants/{platform.tenant}/tasks/{task['id']}").json()["runs"][0]
    tree = _tree(run["pid"])
    assert len(tree) >= 2
    os.kill(run["pid"], signal.SIGKILL)
    deadline = time.monotonic() + 2
    while any(lives(pid) for pid in tree) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert [pid for pid in tree if lives(pid)] == []
    done = work.end_of(task, seconds=90)
    assert (done["status"], done["counts"]["losses"]) == ("completed", 1)
    assert [each["status"] for each in done["runs"]] == ["lost", "completed"]


def test_a_killed_main_worker_leaves_no_process_of_its_runs(platform: Platform, work: Work) -> None:
    task = work.submit(params={"seconds": 30, "spawn_daemon": True}, queue="batch", idempotent=False)
    work.until(task, "running")
    main = platform.pid("batch")
    tree = _tree(main)
    platform.signal("batch")
    deadline = time.monotonic() + 2
    while any(lives(pid) for pid in tree) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert [pid for pid in tree if lives(pid)] == []
    done = work.end_of(task, seconds=90)
    assert (done["status"], done["status_reason"]) == ("failed", "lost")
    platform.wait_for_another("batch", main)
    assert work.end_of(work.submit(params={}, queue="batch"), seconds=90)["status"] == "completed"


def _tree(pid: int) -> list[int]:
    found = [pid]
    for each in found:
        with contextlib.suppress(OSError):
            found.extend(children(each))
    return found
