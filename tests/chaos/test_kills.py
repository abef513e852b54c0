"""Nothing lost, nothing twice: real processes are killed while real work runs."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import threading
import time
from collections.abc import Iterator

import httpx2
import pytest
import redis

from ops.supervision.processes import children
from tests.conftest import Eventually
from tests.e2e.platforms import Platform, command_line, temporary_platform
from tests.e2e.work import Json, Work
from tests.processes import lives
from workers.sandbox.tree import of_run

QUEUES = ("critical", "normal", "batch")


@pytest.fixture(scope="module")
def platform() -> Iterator[Platform]:
    """A platform of its own: what happens to it here is nobody else's business."""
    with temporary_platform("chaos") as running:
        yield running


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


def test_a_flushed_broker_loses_nothing_and_runs_nothing_twice(
    platform: Platform, work: Work, eventually: Eventually
) -> None:
    if "amqp" in platform.credentials["broker_url"]:
        pytest.skip("FLUSHALL is Valkey's; RabbitMQ's queues are purged in another test")
    running = [work.submit(params={"seconds": 6, "stdout": "once"}, queue="normal") for _ in range(2)]
    for task in running:
        work.until(task, "running")
    assert work.end_of(work.submit(params={}, queue="batch"), seconds=90)["status"] == "completed"
    # A worker that sleeps takes one message at most, so one of the two for its slots is forgotten.
    worker = platform.signal("batch", signal.SIGSTOP)
    try:
        queued = [
            work.submit(params={"stdout": "once"}, queue=("normal", "batch")[number % 2])
            for number in range(50)
        ]
        with redis.Redis.from_url(platform.credentials["broker_url"]) as broker:
            eventually(lambda: broker.llen("batch") >= 1, seconds=20)
            broker.flushall()
    finally:
        os.kill(worker, signal.SIGCONT)
    for task in (*running, *queued):
        done = work.end_of(task, seconds=180)
        assert (done["status"], len(done["runs"])) == ("completed", 1), done
        assert work.texts(task, stream="stdout") == ["once"]
        work.check_history(task)


def test_a_killed_supervisor_takes_its_handler_with_it_and_another_completes(work: Work) -> None:
    task = work.submit(params={"seconds": 4, "tell_time": True})
    supervisor = speaking_supervisor(work, task)
    tree = of_run(task["id"])
    assert len(tree) >= 2
    os.kill(supervisor, signal.SIGKILL)
    all_die([supervisor, *tree])
    done = work.end_of(task, seconds=90)
    assert (done["status"], done["counts"]["losses"]) == ("completed", 1)
    assert [each["status"] for each in done["runs"]] == ["lost", "completed"]


def test_a_killed_handler_server_loses_its_runs_and_fails_none(platform: Platform, work: Work) -> None:
    task = work.submit(params={"seconds": 4, "tell_time": True}, queue="batch")
    speaking_supervisor(work, task)
    below = [pid for child in children(platform.pid("batch")) for pid in children(child)]
    (server,) = [pid for pid in below if "inside.server" in command_line(pid)]
    tree = of_run(task["id"])
    os.kill(server, signal.SIGKILL)
    all_die([server, *tree])
    done = work.end_of(task, seconds=90)
    assert [each["status"] for each in done["runs"]] == ["lost", "completed"]
    assert (done["counts"]["losses"], done["counts"]["failures"]) == (1, 0)
    work.check_history(task)


def test_a_killed_main_worker_leaves_no_process_of_its_runs(platform: Platform, work: Work) -> None:
    # A handler that listens to nobody, not even when its supervisor has gone.
    params = {"seconds": 30, "spawn_daemon": True, "ignore_cancel": True, "ignore_sigterm": True}
    task = work.submit(params=params, queue="batch", idempotent=False)
    work.until(task, "running")
    main = platform.pid("batch")
    tree = _tree(main)
    platform.signal("batch")
    all_die(tree)
    done = work.end_of(task, seconds=90)
    assert (done["status"], done["status_reason"]) == ("failed", "lost")
    platform.wait_for_another("batch", main)
    assert work.end_of(work.submit(params={}, queue="batch"), seconds=90)["status"] == "completed"


def test_a_worker_that_is_killed_while_it_drains_is_lost_like_any_other(
    platform: Platform, work: Work, eventually: Eventually
) -> None:
    # As `docker stop` does with too short a grace: SIGTERM, then SIGKILL to everybody at once.
    params = {"seconds": 3, "ignore_cancel": True, "ignore_sigterm": True}
    tasks = [work.submit(params=params, queue="batch", idempotent=each) for each in (True, False)]
    for task in tasks:
        work.until(task, "running")
    main = platform.signal("batch", signal.SIGTERM)
    heartbeat = platform.state / "service" / "workers" / "batch-1"
    eventually(lambda: bool(json.loads(heartbeat.read_text())["draining_since"]))
    tree = _tree(main)
    for pid in tree:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    all_die(tree)
    again, never = (work.end_of(task, seconds=90) for task in tasks)
    counts = again["counts"]
    assert (again["status"], again["attempt"]) == ("completed", 2)
    assert (counts["losses"], counts["restarts"], counts["failures"]) == (1, 0, 0)
    assert (never["status"], never["status_reason"], never["attempt"]) == ("failed", "lost", 1)
    for task in tasks:
        work.check_history(task)


def test_poison_starts_exactly_twice_and_what_is_not_idempotent_once(work: Work) -> None:
    # The test kills the supervisors: at level `full` no handler can.
    params = {"seconds": 60, "tell_time": True}
    poison = work.submit(params=params, max_retries=9)
    once = work.submit(params=params, max_retries=9, idempotent=False)
    os.kill(speaking_supervisor(work, once), signal.SIGKILL)
    os.kill(speaking_supervisor(work, poison), signal.SIGKILL)
    os.kill(speaking_supervisor(work, poison, attempt=2), signal.SIGKILL)
    for task, reason, starts in ((poison, "poison", 2), (once, "lost", 1)):
        done = work.end_of(task, seconds=90)
        assert (done["status"], done["status_reason"]) == ("failed", reason)
        assert [run["status"] for run in done["runs"]] == ["lost"] * starts
        work.check_history(task)


def speaking_supervisor(work: Work, task: Json, *, attempt: int = 1) -> int:
    """Wait for an attempt to say something; return its supervisor's process id."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for run in work.runs(task):
            if (run["attempt"], run["status"]) != (attempt, "running"):
                continue
            if work.texts(task, run=attempt):
                return int(run["pid"])
        time.sleep(0.05)
    raise AssertionError(f"attempt {attempt} does not run")


def all_die(tree: list[int]) -> None:
    """Assert that of these processes none is alive two seconds later."""
    deadline = time.monotonic() + 2
    while any(lives(pid) for pid in tree) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert [pid for pid in tree if lives(pid)] == []


def _tree(pid: int) -> list[int]:
    found = [pid]
    for each in found:
        with contextlib.suppress(OSError):
            found.extend(children(each))
    return found
