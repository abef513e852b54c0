"""A worker that is told to stop lets its runs finish, then gives them back uncharged."""

from __future__ import annotations

import signal
from functools import partial
from typing import Any

import pytest

from tasks.models import TaskType
from tests.conftest import Eventually
from tests.workers.supervisor.conftest import Bench, Guarded
from workers import worker_steps

pytestmark = pytest.mark.usefixtures("draining")

DRAIN, GRACE = 0.5, 1.0


def gets_beyond(guarded: Guarded, percent: float) -> bool:
    """Whether its task has made progress."""
    return guarded.task.progress_percent > percent


def test_a_run_that_is_shorter_than_the_drain_finishes(bench: Bench) -> None:
    guarded = bench.until_it_runs(bench.start(params={"seconds": 0.3}))
    worker_steps.begin_drain()
    assert guarded.wait() == 0, guarded.said()
    assert guarded.task.status == "completed"


def test_five_rolling_restarts_charge_a_checkpointing_task_nothing(
    bench: Bench, eventually: Eventually
) -> None:
    options: dict[str, Any] = {"max_retries": 0, "idempotent": False}
    params = {"seconds": 7, "steps": 40, "checkpoint": True, "result": {"done": True}}
    guarded = bench.start(params=params, **options)
    for restart in range(1, 6):
        further = partial(gets_beyond, guarded, guarded.task.progress_percent)
        eventually(further, seconds=15)
        worker_steps.begin_drain()
        assert guarded.wait() == 0, guarded.said()
        worker_steps.forget_drain()
        task = guarded.task
        assert (task.status, task.status_reason, task.restarts) == ("queued", "shutdown", restart)
        guarded = bench.attempt(task)
    assert guarded.wait(30) == 0, guarded.said()
    task = guarded.task
    assert (task.status, task.result, task.attempt) == ("completed", {"done": True}, 6)
    assert (task.restarts, task.failures, task.losses) == (5, 0, 0)
    steps = [event["step"] for event in guarded.events("progress")]
    assert len(steps) == len(set(steps)), "a step was done twice"


def test_sigterm_to_the_supervisor_itself_is_a_planned_stop(bench: Bench) -> None:
    guarded = bench.until_it_runs(bench.start(params={"seconds": 60}))
    guarded.signal(signal.SIGTERM)
    assert guarded.wait() == 0, guarded.said()
    assert (guarded.task.status, guarded.run.status) == ("queued", "dropped")
    bench.nothing_is_left(guarded)


def test_what_would_fail_is_left_to_finish_after_the_drain(bench: Bench) -> None:
    seconds = DRAIN + GRACE - 0.3
    guarded = bench.until_it_runs(bench.start(params={"seconds": seconds}, idempotent=False))
    worker_steps.begin_drain()
    assert guarded.wait() == 0, guarded.said()
    assert guarded.task.status == "completed"


def test_what_has_not_finished_at_the_very_end_has_failed_interrupted(bench: Bench) -> None:
    guarded = bench.until_it_runs(bench.start(params={"seconds": 60}, idempotent=False, max_retries=3))
    worker_steps.begin_drain()
    assert guarded.wait() == 0, guarded.said()
    task, run = guarded.task, guarded.run
    assert (task.status, task.status_reason, task.failures) == ("failed", "interrupted", 0)
    assert run.wall_seconds is not None
    assert run.wall_seconds >= DRAIN + GRACE


def test_a_type_that_says_so_is_dropped_and_its_event_says_that_it_had_started(bench: Bench) -> None:
    TaskType.objects.filter(name="test.dummy").update(on_shutdown="drop")
    guarded = bench.until_it_runs(bench.start(params={"seconds": 60}))
    worker_steps.begin_drain()
    assert guarded.wait() == 0, guarded.said()
    task = guarded.task
    assert (task.status, task.status_reason, task.cancel_requested_at) == ("dropped", "shutdown", None)
    last = guarded.events("state")[-1]
    assert (last["status"], last["started"]) == ("dropped", True)


def test_a_live_run_shows_how_much_it_has_printed(bench: Bench, eventually: Eventually) -> None:
    guarded = bench.start(type="tidy.clean_up", params={"seconds": 60})
    bench.until_it_runs(guarded, "ready")
    run = guarded.run
    assert (run.status, run.log_lines, run.log_bytes) == ("running", 1, 6)
    guarded.signal(signal.SIGTERM)
    assert guarded.wait() == 0, guarded.said()
    assert (guarded.run.log_lines, guarded.run.log_bytes) == (2, 14)
