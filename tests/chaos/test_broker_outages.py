"""A broker that is away, frozen, full, forgetful or cut off, while a whole platform works."""

from __future__ import annotations

import json

import pytest

from tests.chaos.proxy import Way
from tests.chaos.stage import Stage
from tests.chaos.trouble import assert_completed_once, timed_submit, trouble
from tests.conftest import Eventually
from tests.e2e.work import Json


@pytest.mark.parametrize("way", [Way.CLOSED, Way.FROZEN])
def test_without_a_broker_tasks_are_accepted_and_start_when_it_is_back(stage: Stage, way: Way) -> None:
    running = stage.submit(params={"seconds": 2, "stdout": "went on"}, idempotent=False)
    stage.work.until(running, "running")
    stage.broker.set(way)
    stage.channels.set(way)
    tasks = [timed_submit(stage) for _ in range(3)]
    assert stage.work.end_of(running)["status"] == "completed"
    assert {stage.work.task(task)["status"] for task in tasks} == {"queued"}
    stage.undo()
    assert_completed_once(stage, *tasks)


def test_a_frozen_valkey_delays_and_loses_nothing(stage: Stage) -> None:
    with stage.servers.frozen_valkey():
        tasks = [timed_submit(stage) for _ in range(3)]
    assert_completed_once(stage, *tasks)


@pytest.mark.parametrize("how", ["flushed", "killed"])
def test_a_valkey_that_forgets_everything_loses_and_repeats_nothing(
    stage: Stage, eventually: Eventually, how: str
) -> None:
    running = stage.submit(params={"seconds": 1.5, "stdout": "once"})
    stage.work.until(running, "running")
    with stage.servers.broker() as broker, trouble(stage.broker, Way.CLOSED, "worker"):
        tasks = [stage.submit(params={"stdout": "once"}, queue="batch") for _ in range(6)]
        # Nobody takes the messages, so there is something to forget.
        eventually(lambda: broker.llen("batch") >= 2, seconds=20)
        if how == "flushed":
            broker.flushall()
        else:
            stage.servers.kill_valkey()
    assert_completed_once(stage, running, *tasks)


def test_a_full_valkey_delays_and_loses_nothing(stage: Stage) -> None:
    with stage.servers.broker() as broker:
        broker.config_set("maxmemory", 1)
        try:
            tasks = [timed_submit(stage) for _ in range(3)]
        finally:
            broker.config_set("maxmemory", 0)
    assert_completed_once(stage, *tasks)


def test_messages_from_an_old_snapshot_start_nothing_again(stage: Stage, eventually: Eventually) -> None:
    messages, tasks = caught_messages(stage, 3, eventually)
    assert_completed_once(stage, *tasks)
    with stage.servers.broker() as broker:
        broker.lpush("batch", *messages)
        eventually(lambda: broker.llen("batch") == 0, seconds=20)
    assert_completed_once(stage, stage.submit(params={}, queue="batch"), *tasks)


def test_a_message_that_comes_a_hundred_times_makes_one_attempt(
    stage: Stage, eventually: Eventually
) -> None:
    messages, tasks = caught_messages(stage, 1, eventually, copies=99)
    with stage.servers.broker() as broker:
        eventually(lambda: broker.llen("batch") == 0, seconds=60)
    assert len(messages) == 1
    assert_completed_once(stage, *tasks)


def test_forged_and_garbage_messages_run_nothing(stage: Stage, eventually: Eventually) -> None:
    messages, tasks = caught_messages(stage, 1, eventually)
    assert_completed_once(stage, *tasks)
    waiting = stage.submit(params={}, queue="batch", scheduled_for="2030-01-01T00:00:00Z")
    forged = messages[0].replace(tasks[0]["id"].encode(), waiting["id"].encode())
    garbage = [b"", b"{}", b"[]", b"\xff\xfe", b"null", b'{"body": 7}', b"x" * 100_000, forged[:-20]]
    with stage.servers.broker() as broker:
        broker.lpush("batch", forged, *garbage)
        eventually(lambda: broker.llen("batch") == 0, seconds=30)
    assert stage.work.end_of(stage.submit(params={}, queue="batch"))["status"] == "completed"
    seen = stage.work.task(waiting)
    assert (seen["status"], seen["attempt"]) == ("scheduled", 0)
    stage.work.post(f"tasks/{waiting['id']}/cancel")


def caught_messages(
    stage: Stage, count: int, eventually: Eventually, *, copies: int = 0
) -> tuple[list[bytes], list[Json]]:
    """Return messages that were published for new tasks, and let workers have them and ``copies``."""
    with stage.servers.broker() as broker:
        with trouble(stage.broker, Way.CLOSED, "worker"):
            tasks = [stage.submit(params={"stdout": "once"}, queue="batch") for _ in range(count)]
            eventually(lambda: broker.llen("batch") >= min(count, 2), seconds=20)
            messages: list[bytes] = broker.lrange("batch", 0, -1)  # type: ignore[assignment]
            for _ in range(copies):
                broker.lpush("batch", *messages)
    return messages, tasks


def test_workers_cut_off_from_the_broker_finish_and_start_nothing_new(
    stage: Stage, eventually: Eventually
) -> None:
    running = stage.submit(params={"seconds": 6}, idempotent=False)
    stage.work.until(running, "running")
    heartbeat = stage.platform.state / "service" / "workers" / "normal-1"

    def beats() -> int:
        told = json.loads(heartbeat.read_text())
        assert not told["connected"]
        return int(told["tick"])

    with (
        stage.servers.broker() as broker,
        trouble(stage.broker, Way.CLOSED, "worker"),
        trouble(stage.channels, Way.CLOSED, "worker"),
    ):
        waiting = [timed_submit(stage, queue="batch") for _ in range(2)]
        # What was on its way to a worker when the connection broke has left the broker.
        eventually(lambda: broker.rpop("batch") is not None, seconds=20)
        # A worker that is cut off for long is not taken for one that hangs, and killed with its runs.
        eventually(beats, seconds=10)
        first = beats()
        eventually(lambda: beats() >= first + 3, seconds=10)
        assert stage.work.end_of(running)["status"] == "completed"
        assert {stage.work.task(task)["status"] for task in waiting} == {"queued"}
    assert_completed_once(stage, running, *waiting)


def test_an_api_cut_off_from_valkey_accepts_and_answers(stage: Stage) -> None:
    with trouble(stage.channels, Way.FROZEN, "web"), trouble(stage.broker, Way.FROZEN, "web"):
        task = timed_submit(stage)
        assert_completed_once(stage, task)
