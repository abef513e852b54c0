"""Measure one peer on given servers: ``python -m bench.peers.drive KIND --slots N --jobs N``.

Runs in `.venv-bench`. Starts the peer's workers with as many slots, lets each do two jobs, then puts
all jobs into its queue at once, and prints JSON: jobs a second from the first job's begin to the last
one's end, CPU milliseconds per job of the workers and their children.

``rq``: RQ's fork-per-job worker, one per slot. ``celery-fresh``: stock Celery, a child per task.
``celery-kept``, ``procrastinate``: no isolation between jobs, the ceiling. ``floor``: no queue at all,
a loaded process that forks; the child connects, asks, and becomes another program.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.accounting import cpu_of
from bench.peers import jobs

WARM = 1_000_000
PATIENCE = 180.0
CELERY = ("-m", "celery", "-q", "-A", "bench.peers.jobs:celery_app", "worker", "-l", "ERROR")
QUIET = ("--without-gossip", "--without-mingle", "--without-heartbeat")


def command(kind: str, slots: int) -> list[list[str]]:
    """Return the command lines of a peer's workers."""
    if kind == "rq":
        # Imported before the fork, as Celery's children have it.
        program = "import bench.peers.jobs, rq.cli; rq.cli.main()"
        return [[sys.executable, "-c", program, "worker", "-q", "-u", jobs.REDIS, "peer"]] * slots
    if kind == "procrastinate":
        return [
            [
                *(sys.executable, "-m", "procrastinate", "--log-level", "error"),
                *("-a", "bench.peers.jobs.procrastinate_app", "worker", "-q", "peer"),
                *("-c", str(slots), "--delete-jobs", "always"),
            ]
        ]
    fresh = ["--max-tasks-per-child", "1"] if kind == "celery-fresh" else []
    return [[sys.executable, *CELERY, "-Q", "peer", "-c", str(slots), *QUIET, *fresh]]


@contextmanager
def workers(kind: str, slots: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Run a peer's workers."""
    running = [
        subprocess.Popen(
            line, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True
        )
        for line in command(kind, slots)
    ]
    try:
        yield running
    finally:
        for worker in running:
            worker.send_signal(signal.SIGTERM)
        for worker in running:
            try:
                worker.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(worker.pid, signal.SIGKILL)
                worker.wait()


def putting(kind: str) -> Callable[[range], None]:
    """Return what puts numbered jobs into a peer's queue, all at once where it can."""
    if kind == "rq":
        from redis import Redis
        from rq import Queue

        connection = Redis.from_url(jobs.REDIS)
        connection.flushdb()
        queue = Queue("peer", connection=connection)

        def rq(numbers: range) -> None:
            with connection.pipeline() as pipeline:
                many = [Queue.prepare_data(jobs.one_query, args=(number,)) for number in numbers]
                queue.enqueue_many(many, pipeline=pipeline)
                pipeline.execute()

        return rq
    if kind == "procrastinate":
        app = jobs.procrastinate_app.with_connector(
            jobs.procrastinate_app.connector.get_sync_connector()
        )
        app.open()
        with app.connector.pool.connection() as made:  # type: ignore[attr-defined]
            made.execute("DROP SCHEMA IF EXISTS peer CASCADE")
            made.execute("CREATE SCHEMA peer")
        app.schema_manager.apply_schema()

        def procrastinate(numbers: range) -> None:
            app.tasks["peer.one_query"].batch_defer(*({"number": number} for number in numbers))

        return procrastinate

    def celery(numbers: range) -> None:
        with jobs.celery_app.connection_for_write() as connection:
            producer = jobs.celery_app.amqp.Producer(connection)
            for number in numbers:
                jobs.celery_app.send_task("peer.one_query", [number], queue="peer", producer=producer)

    return celery


def journal() -> dict[int, tuple[float, float]]:
    """Begin and end of each job that has ended, by number."""
    path = Path(jobs.JOURNAL)
    lines = path.read_text().splitlines() if path.exists() else []
    return {int(number): (float(began), float(ended)) for number, began, ended in map(str.split, lines)}


def wait_for(count: int, running: list[subprocess.Popen[bytes]]) -> dict[int, tuple[float, float]]:
    """Return the journal once so many jobs have ended; RuntimeError when that cannot be any more."""
    deadline = time.monotonic() + PATIENCE
    while len(seen := journal()) < count:
        if time.monotonic() > deadline or any(worker.poll() is not None for worker in running):
            raise RuntimeError(f"{len(seen)} of {count} jobs ended; the workers are too slow or gone")
        time.sleep(0.05)
    return seen


def queue_of(kind: str, slots: int, count: int) -> tuple[float, float]:
    """Measure a peer with a queue; gives seconds and CPU seconds of all jobs."""
    put = putting(kind)
    with workers(kind, slots) as running:
        pids = [worker.pid for worker in running]
        warm = 2 * slots
        put(range(WARM, WARM + warm))
        wait_for(warm, running)
        cpu = cpu_of(pids)
        put(range(count))
        seen = wait_for(warm + count, running)
        cpu = cpu_of(pids) - cpu
    times = [each for number, each in seen.items() if number < WARM]
    return max(ended for _, ended in times) - min(began for began, _ in times), cpu


def floor(slots: int, count: int) -> tuple[float, float]:
    """Fork, connect, ask, exec, ``slots`` at a time; gives seconds and CPU seconds."""
    began, cpu = time.monotonic(), cpu_of([os.getpid()])
    alive = 0
    for number in range(count):
        if alive == slots:
            os.wait()
            alive -= 1
        if os.fork() == 0:
            jobs.one_query(number)
            os.execv("/bin/true", ["true"])
        alive += 1
    while alive:
        os.wait()
        alive -= 1
    return time.monotonic() - began, cpu_of([os.getpid()]) - cpu


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("kind", choices=["rq", "celery-fresh", "celery-kept", "procrastinate", "floor"])
    parser.add_argument("--slots", type=int, required=True)
    parser.add_argument("--jobs", type=int, required=True)
    options = parser.parse_args()
    if options.kind == "floor":
        seconds, cpu = floor(options.slots, options.jobs)
    else:
        seconds, cpu = queue_of(options.kind, options.slots, options.jobs)
    print(json.dumps({"rate": options.jobs / seconds, "cpu_ms": cpu * 1000 / options.jobs}))


if __name__ == "__main__":
    main()
