"""Two dispatchers: one that sleeps or dies while it gives up lost runs is followed by the other."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from ops.supervision.processes import descendants
from tests.chaos.dispatchers import second
from tests.chaos.stage import Stage
from tests.conftest import Eventually

LOST_WITHIN = 40.0
"""The lead's lease, the longest sleep in a transaction (8 s), and a busy machine's time."""


@pytest.mark.parametrize("action", ["kill9", "stop"])
def test_of_two_dispatchers_one_that_ends_among_lost_runs_leaves_them_to_the_other(
    stage: Stage, tmp_path: Path, eventually: Eventually, action: str
) -> None:
    with second(stage, tmp_path, eventually, f"in_reap:{action}") as other:
        other.take_the_lead()
        queues = ("critical", "normal") * 2
        tasks = [stage.submit(params={"seconds": 3}, queue=queue) for queue in queues]
        for task in tasks:
            stage.work.until(task, "running")
        lose_the_machine(stage)
        if action == "kill9":
            eventually(lambda: other.process.poll() is not None, seconds=30)
        else:
            # It holds the locks of the task that it gives up, for as long as PostgreSQL lets it.
            eventually(other.has_stopped, seconds=30)

        def given_up() -> bool:
            return all(stage.work.task(task)["counts"]["losses"] == 1 for task in tasks)

        eventually(given_up, seconds=LOST_WITHIN)
        for task in tasks:
            done = stage.work.end_of(task)
            assert (done["status"], done["counts"]["losses"]) == ("completed", 1), done
            assert [run["status"] for run in done["runs"]] == ["lost", "completed"]
        if action == "stop":
            other.wakes_up()


def lose_the_machine(stage: Stage) -> None:
    """SIGKILL the pool manager and all below it at once: nobody is left to tell what was lost."""
    manager = stage.platform.pid("pools")
    for pid in [manager, *descendants(manager)]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
