"""on_cleanup hooks run once at every end of a handler, and never longer than the grace."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.services.cancel import cancel
from tests.workers.supervisor.conftest import Bench, Guarded
from workers import worker_steps
from workers.sandbox import Level

TIDY = "tidy.clean_up"


def cleaned(guarded: Guarded) -> int:
    """How often the hook has run."""
    return guarded.texts("stdout").count("cleaned")


@pytest.mark.parametrize(
    ("params", "status"),
    [({}, "completed"), ({"fail": True}, "failed"), ({"hook": "fail"}, "completed")],
)
def test_hooks_run_once_at_an_ordinary_end(bench: Bench, params: dict[str, Any], status: str) -> None:
    guarded = bench.start(type=TIDY, params=params, max_retries=0)
    assert guarded.wait() == 0, guarded.said()
    assert (guarded.task.status, cleaned(guarded)) == (status, 1)
    broken = any("the hook broke" in text for text in guarded.texts("stderr"))
    assert broken == (params.get("hook") == "fail")


@pytest.mark.parametrize("deaf", [False, True])
def test_hooks_run_once_on_a_cancel(level: Level, bench: Bench, deaf: bool) -> None:
    guarded = bench.start(level, TIDY, params={"seconds": 60, "deaf": deaf})
    bench.until_it_runs(guarded, "ready")
    assert cancel(guarded.task_id, by="user:alice").changed
    assert guarded.wait() == 0, guarded.said()
    assert (guarded.task.status, cleaned(guarded)) == ("cancelled", 1)
    bench.nothing_is_left(guarded)


def test_hooks_run_once_at_the_time_limit(level: Level, bench: Bench) -> None:
    guarded = bench.start(level, TIDY, params={"seconds": 60}, time_limit=0.5, max_retries=0)
    assert guarded.wait() == 0, guarded.said()
    assert (guarded.task.status_reason, cleaned(guarded)) == ("timed_out", 1)


@pytest.mark.usefixtures("draining")
def test_hooks_run_once_at_a_planned_stop(bench: Bench) -> None:
    guarded = bench.until_it_runs(bench.start(type=TIDY, params={"seconds": 60}), "ready")
    worker_steps.begin_drain()
    assert guarded.wait() == 0, guarded.said()
    assert (guarded.task.status, cleaned(guarded)) == ("queued", 1)


def test_a_hook_that_hangs_is_killed_after_the_grace_and_takes_no_result_with_it(
    level: Level, bench: Bench
) -> None:
    guarded = bench.start(level, TIDY, params={"hook": "hang"})
    assert guarded.wait() == 0, guarded.said()
    run = guarded.run
    assert (guarded.task.status, run.signal, cleaned(guarded)) == ("completed", "SIGKILL", 0)
    assert run.wall_seconds is not None
    assert run.wall_seconds >= 1.0
    assert any("clean-ups took longer" in text for text in guarded.texts("system"))
    bench.nothing_is_left(guarded)


def test_a_hook_that_hangs_after_a_cancel_is_killed_after_the_grace(bench: Bench) -> None:
    guarded = bench.start(type=TIDY, params={"seconds": 60, "hook": "hang"})
    bench.until_it_runs(guarded, "ready")
    cancel(guarded.task_id, by="user:alice")
    assert guarded.wait() == 0, guarded.said()
    assert guarded.task.status == "cancelled"
