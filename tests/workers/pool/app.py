"""The application that the tests' workers run: our settings and steps, tasks that keep a journal.

Each line of the journal is one append: ``start <number> <pid> <monotonic>``, ``end <number>``,
``lost <number>`` (its child died), ``supervise <task id> <epoch> <token>``.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from typing import Any

from celery import Celery, signals

from workers import broker, worker_steps
from workers.celery_settings import celery_settings
from workers.messages import supervise_arguments

UNGUARDED = "POOL_UNGUARDED" in os.environ
ONE_SHOT = "POOL_KEPT" not in os.environ

if not UNGUARDED:
    broker.install()

app = Celery("pool-tests")
settings = {**celery_settings(os.environ["POOL_BROKER"], one_shot=ONE_SHOT), "include": ()}
if UNGUARDED:
    settings["worker_consumer"] = "celery.worker.consumer:Consumer"
if "POOL_ACKS_LATE" in os.environ:
    settings["task_acks_late"] = True
app.config_from_object(settings)
worker_steps.install(app)


def note(*words: object) -> None:
    line = " ".join(str(word) for word in words) + "\n"
    journal = os.open(os.environ["POOL_JOURNAL"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(journal, line.encode())
    os.close(journal)


@app.task(name="pool.work")
def work(number: int, seconds: float = 0) -> None:
    note("start", number, os.getpid(), time.monotonic())
    time.sleep(seconds)
    note("end", number)


@app.task(name="pool.ignore_sigterm")
def ignore_sigterm(number: int) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    note("start", number, os.getpid(), time.monotonic())


@app.task(name="pool.await_drain")
def await_drain(number: int) -> None:
    """Runs until the worker drains, as a supervisor does, and notes how long the drain is on."""
    note("start", number, os.getpid(), time.monotonic())
    while (since := worker_steps.draining_since()) is None:
        time.sleep(0.01)
    note("drained", number, time.monotonic() - since)


@app.task(name="pool.dumpable")
def dumpable() -> None:
    pr_get_dumpable = 3
    note("dumpable", ctypes.CDLL(None).prctl(pr_get_dumpable, 0, 0, 0, 0))


@app.task(name="workers.supervise", argument_rule=staticmethod(supervise_arguments), untraced=True)
def supervise(task_id: str, epoch: int, token: str) -> None:
    note("supervise", task_id, epoch, token)
    if token == "fail":
        raise OSError(5, "asked to fail")


@signals.task_failure.connect(weak=False)
def lost(args: Any = None, **_signal: Any) -> None:
    note("lost", args[0])


if "POOL_SLOW_EXIT" in os.environ:

    @signals.worker_process_shutdown.connect(weak=False)
    def exit_slowly(**_signal: Any) -> None:
        """Close every pipe and die a little later, as a child on a busy machine does by chance."""
        os.closerange(3, 1024)
        time.sleep(float(os.environ["POOL_SLOW_EXIT"]))
