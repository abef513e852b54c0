"""Two dispatchers at once: one stops or dies in the middle of a batch, and the other goes on with it."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from tests.chaos.dispatchers import TAKE_OVER_SECONDS, second
from tests.chaos.stage import Stage
from tests.conftest import Eventually


@pytest.mark.parametrize("point", ["before_publish", "after_publish"])
def test_of_two_dispatchers_one_that_sleeps_in_a_batch_dispatches_nothing_twice(
    stage: Stage, tmp_path: Path, eventually: Eventually, point: str
) -> None:
    short, long = ({"params": {"seconds": n, "stdout": "once"}, "idempotent": False} for n in (0, 12))
    with second(stage, tmp_path, eventually, f"{point}:stop") as other:
        tasks = other.take_the_lead(short, long, short, short)
        eventually(other.has_stopped, seconds=TAKE_OVER_SECONDS)
        # It has committed, or published one of two; another one goes on with its batch.
        eventually(other.is_succeeded, seconds=TAKE_OVER_SECONDS)
        for task in (tasks[0], *tasks[2:]):
            stage.work.end_of(task)
        # A slot is free for what it may still say of the one that runs.
        stage.work.until(tasks[1], "running")
        other.wakes_up()
        tasks.append(stage.submit(**short))
        for task in tasks:
            done = stage.work.end_of(task)
            assert (done["status"], len(done["runs"])) == ("completed", 1), done
            assert stage.work.texts(done, stream="stdout") == ["once"]


def test_of_two_dispatchers_one_that_sleeps_over_its_decision_dispatches_nothing_later(
    stage: Stage, tmp_path: Path, eventually: Eventually
) -> None:
    short, long = ({"params": {"seconds": n, "stdout": "once"}, "idempotent": False} for n in (0, 12))
    with second(stage, tmp_path, eventually, "in_dispatch:stop") as other:
        decided = other.take_the_lead(short, short)
        eventually(other.has_stopped, seconds=TAKE_OVER_SECONDS)
        # Another one leads, and gives the slots to what is more urgent.
        urgent = [stage.submit(priority=100, **long) for _ in range(2)]
        eventually(other.is_succeeded, seconds=TAKE_OVER_SECONDS)
        for task in urgent:
            stage.work.until(task, "running")
        other.wakes_up()
        assert in_line(stage) == {task["id"] for task in decided}
    for task in (*decided, *urgent):
        done = stage.work.end_of(task)
        assert (done["status"], len(done["runs"])) == ("completed", 1), done


def in_line(stage: Stage) -> set[str]:
    """Return the tasks that nobody has dispatched yet."""
    with psycopg.connect(stage.servers.database_url) as connection:
        return {row[0] for row in connection.execute("SELECT task_id::text FROM ready")}
