"""A batch run that is asked to make room: it ends by itself or is killed, and is charged nothing."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from tasks.models import Inflight
from tasks.services.cancel import cancel
from tasks.services.preempt import preempt
from tests.conftest import Eventually
from tests.workers.supervisor.conftest import Bench, Guarded

BATCH: dict[str, Any] = {"queue": "batch", "preemptible": True, "max_retries": 0}


@pytest.fixture
def batch(bench: Bench) -> Callable[..., Guarded]:
    """Start a run that may be preempted and wait until its handler has begun."""

    def start(type: str = "test.dummy", **options: Any) -> Guarded:
        return bench.until_it_runs(bench.start(type=type, **BATCH | options))

    return start


def make_room(guarded: Guarded) -> None:
    assert preempt(guarded.task_id, epoch=guarded.epoch)


def test_a_preempted_run_goes_on_from_its_last_checkpoint(
    bench: Bench, batch: Any, eventually: Eventually
) -> None:
    params = {"seconds": 3, "steps": 20, "checkpoint": True, "result": {"done": True}}
    guarded = batch(params=params, idempotent=False)
    for times in (1, 2):
        known = (None, guarded.task.checkpoint)
        eventually(lambda g=guarded, old=known: g.task.checkpoint not in old, seconds=20)
        make_room(guarded)
        assert guarded.wait() == 0, guarded.said()
        task, run = guarded.task, guarded.run
        assert (task.status, task.status_reason, run.status) == ("queued", "preempted", "preempted")
        assert (task.preemptions, task.failures, task.losses, task.restarts) == (times, 0, 0, 0)
        assert Inflight.objects.count() == 0
        guarded = bench.attempt(task)
    assert guarded.wait(30) == 0, guarded.said()
    task = guarded.task
    assert (task.status, task.result, task.attempt) == ("completed", {"done": True}, 3)
    steps = [event["step"] for event in guarded.events("progress")]
    assert len(steps) == len(set(steps)), "a step was done twice"


def test_a_run_that_completes_in_the_grace_is_completed(bench: Bench, batch: Any) -> None:
    guarded = batch(params={"seconds": 0.6, "ignore_cancel": True, "ignore_sigterm": True})
    make_room(guarded)
    assert guarded.wait() == 0, guarded.said()
    assert (guarded.task.status, guarded.run.status) == ("completed", "completed")
    assert guarded.task.preemptions == 0


def test_a_run_that_does_not_listen_is_killed_after_the_grace_and_charged_nothing(
    bench: Bench, batch: Any
) -> None:
    guarded = batch(params={"seconds": 60, "ignore_cancel": True, "ignore_sigterm": True})
    asked_at = time.monotonic()
    make_room(guarded)
    assert guarded.wait() == 0, guarded.said()
    assert time.monotonic() - asked_at >= 1.0
    task = guarded.task
    assert (task.status, task.preemptions, task.failures) == ("queued", 1, 0)
    assert guarded.run.status == "preempted"
    bench.nothing_is_left(guarded)


def test_a_command_gets_a_signal_and_runs_again(bench: Bench, batch: Any) -> None:
    guarded = batch("shell.command", params={"command": ["sleep", "60"]}, idempotent=True)
    make_room(guarded)
    assert guarded.wait() == 0, guarded.said()
    assert (guarded.task.status, guarded.task.preemptions) == ("queued", 1)


def test_a_cancel_wins_over_a_preemption_that_was_asked_for_before_it(bench: Bench, batch: Any) -> None:
    guarded = batch(params={"seconds": 60, "ignore_cancel": True, "ignore_sigterm": True})
    make_room(guarded)
    cancel(guarded.task_id, by="user:alice")
    assert guarded.wait() == 0, guarded.said()
    task = guarded.task
    assert (task.status, task.status_reason, guarded.run.status) == (
        "cancelled",
        "user_cancelled",
        "cancelled",
    )


def test_a_preemption_never_replaces_a_cancel(bench: Bench, batch: Any) -> None:
    guarded = batch(params={"seconds": 60})
    cancel(guarded.task_id, by="user:alice")
    assert not preempt(guarded.task_id, epoch=guarded.epoch)
    assert guarded.wait() == 0, guarded.said()
    assert (guarded.task.status, guarded.run.status) == ("cancelled", "cancelled")
    assert guarded.task.preemptions == 0


def test_the_time_limit_that_passes_in_the_grace_charges_nothing(bench: Bench, batch: Any) -> None:
    params = {"seconds": 60, "ignore_cancel": True, "ignore_sigterm": True}
    guarded = batch(params=params, time_limit=1.2)
    make_room(guarded)
    assert guarded.wait() == 0, guarded.said()
    assert (guarded.run.status, guarded.task.status) == ("preempted", "queued")


def test_a_handler_that_has_told_its_failure_keeps_it_whoever_asks_for_room(
    bench: Bench, batch: Any
) -> None:
    guarded = batch("tidy.clean_up", params={"fail": True, "hook": "hang"})
    bench.until_it_runs(guarded, "hook hangs")
    make_room(guarded)
    assert guarded.wait() == 0, guarded.said()
    assert (guarded.task.status, guarded.run.status) == ("failed", "failed")


def test_the_handler_is_told_why_it_is_to_stop(bench: Bench, batch: Any) -> None:
    guarded = batch("tidy.clean_up", params={"seconds": 60, "tell": True})
    bench.until_it_runs(guarded, "ready")
    make_room(guarded)
    assert guarded.wait() == 0, guarded.said()
    assert guarded.texts("stdout") == ["ready", "stopped: preempted", "cleaned"]
    assert guarded.task.status == "queued"


def test_a_supervisor_that_dies_while_it_makes_room_has_lost_its_run(bench: Bench, batch: Any) -> None:
    guarded = batch(params={"seconds": 60, "ignore_cancel": True, "ignore_sigterm": True})
    make_room(guarded)
    guarded.signal(signal.SIGKILL)
    guarded.wait()
    task = bench.expire(guarded)
    assert (task.status, task.losses, task.preemptions) == ("queued", 1, 0)
    assert Inflight.objects.count() == 0
