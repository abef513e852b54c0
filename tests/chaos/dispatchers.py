"""A second dispatcher beside a platform's own, for tests of who leads."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from tests.chaos.stage import Stage
from tests.conftest import Eventually
from tests.e2e.platforms import ROOT
from tests.e2e.work import Json

TAKE_OVER_SECONDS = 15.0


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
