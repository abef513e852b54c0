"""Two dispatchers at once: one stops or dies in the middle of a batch, and the other goes on with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from ops.supervision.processes import descendants
from tests.chaos.stage import Stage
from tests.conftest import Eventually
from tests.e2e.platforms import ROOT
from tests.e2e.work import Json

TAKE_OVER_SECONDS = 15.0
LOST_WITHIN = 22.0
"""The lead's lease, the longest sleep in a transaction (8 s), and a busy machine's time."""


@dataclass
class Second:
    """A dispatcher beside the platform's own, with fault points of its own."""

    stage: Stage
    process: subprocess.Popen[bytes]
    folder: Path
    eventually: Eventually

    def leads(self) -> bool:
        """Whether it is the leader."""
        return leader(self.stage) == self.process.pid

    def has_stopped(self) -> bool:
        """Whether SIGSTOP holds it."""
        stat = Path(f"/proc/{self.process.pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0] == "T"

    def take_the_lead(self, *bodies: Json) -> list[Json]:
        """Lead instead of the platform's own, which sleeps meanwhile; it stands by afterwards.

        What is submitted while nobody leads is one batch for the new leader.
        """
        own = self.stage.platform.pid("dispatcher")
        os.kill(own, signal.SIGSTOP)
        try:
            tasks = [self.stage.submit(**body) for body in bodies]
            self.eventually(self.leads, seconds=TAKE_OVER_SECONDS)
        finally:
            os.kill(own, signal.SIGCONT)
        return tasks

    def is_succeeded(self) -> bool:
        """Whether the platform's own leads."""
        return leader(self.stage) == self.stage.platform.pid("dispatcher")

    def wakes_up(self) -> None:
        """Go on where it stopped, and learn that another leads."""
        self.process.send_signal(signal.SIGCONT)
        log = self.folder / "dispatcher.log"

        def knows() -> bool:
            text = log.read_text(errors="replace")
            return "leadership_lost" in text or "database_unreachable" in text

        self.eventually(knows, seconds=TAKE_OVER_SECONDS)
        assert self.is_succeeded()


def leader(stage: Stage) -> int:
    """Return the process id of whoever leads."""
    with psycopg.connect(stage.servers.database_url) as connection:
        row = connection.execute("SELECT holder FROM leader WHERE name = 'dispatcher'").fetchone()
    return int(str(row[0]).rpartition(":")[2]) if row else 0


@contextmanager
def second(stage: Stage, folder: Path, eventually: Eventually, fault: str) -> Iterator[Second]:
    """Start a second dispatcher as the platform starts its own, and end it in the end."""
    own = stage.platform.pid("dispatcher")
    variables = Path(f"/proc/{own}/environ").read_bytes().rstrip(b"\0").decode().split("\0")
    environment = {
        **dict(each.split("=", 1) for each in variables),
        "SWITCHYARD_FAULT_POINTS": fault,
        "SWITCHYARD_STATE": str(folder),
    }
    log = folder / "dispatcher.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "manage.py"), "dispatch"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
        )
    try:
        eventually(lambda: "dispatcher_started" in log.read_text(errors="replace"), seconds=60)
        yield Second(stage, process, folder, eventually)
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("point", ["in_dispatch", "before_publish", "after_publish"])
def test_of_two_dispatchers_one_that_sleeps_in_a_batch_dispatches_nothing_twice(
    stage: Stage, tmp_path: Path, eventually: Eventually, point: str
) -> None:
    short, long = ({"params": {"seconds": n, "stdout": "once"}, "idempotent": False} for n in (0, 12))
    with second(stage, tmp_path, eventually, f"{point}:stop") as other:
        tasks = other.take_the_lead(short, long, short, short)
        eventually(other.has_stopped, seconds=TAKE_OVER_SECONDS)
        # It has decided, or committed, or published one of two; another one goes on with its batch.
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
