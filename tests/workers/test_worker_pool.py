"""The mended pool under a real worker: fast, one process per task, and no slot ever stays empty."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from itertools import pairwise
from statistics import median

import pytest
from celery import Celery
from celery.exceptions import ImproperlyConfigured

from tests.processes import lives
from tests.workers.conftest import Worker, until
from workers.worker_pool import VERIFIED, OneShotPool, require_verified_versions

StartWorker = Callable[..., Worker]

TASK = "0190a8a0-7c1e-7000-8000-000000000001"


def send(publisher: Celery, numbers: range, seconds: float = 0) -> None:
    for number in numbers:
        publisher.send_task("pool.work", [number, seconds], queue="normal")


def test_another_version_of_celery_is_refused_with_a_sentence_that_names_it() -> None:
    with pytest.raises(ImportError, match=r"celery 5\.8\.0 \(verified: 5\.7\.0\)"):
        require_verified_versions(VERIFIED | {"celery": "5.8.0"})


def test_the_pool_refuses_children_that_would_run_more_than_one_task() -> None:
    with pytest.raises(ImproperlyConfigured, match="one task per child"):
        OneShotPool(1, maxtasksperchild=2)


def test_every_task_runs_in_a_process_of_its_own(pool_worker: StartWorker, publisher: Celery) -> None:
    worker = pool_worker().ready()
    send(publisher, range(20))
    until(lambda: len(worker.numbers("end")) == 20, 20, "20 tasks end")
    assert len({pid for _number, pid, _at in worker.lines("start")}) == 20


def test_slots_are_refilled_at_once(pool_worker: StartWorker, publisher: Celery) -> None:
    """Stock prefork takes 10 to 15 s for these and pauses up to 5 s between two."""
    worker = pool_worker().ready()
    send(publisher, range(80))
    until(lambda: len(worker.numbers("end")) == 80, 20, "80 tasks end")
    times = sorted(float(at) for _number, _pid, at in worker.lines("start"))
    assert times[-1] - times[0] < 80 / 8


def test_the_next_task_does_not_wait_until_the_last_ones_child_is_gone(
    pool_worker: StartWorker, publisher: Celery
) -> None:
    """The spare child takes it; nor does that one make room for another task."""
    worker = pool_worker(slots=1, POOL_SLOW_EXIT="1.5").ready()
    assert len(worker.children()) == 2
    send(publisher, range(3), seconds=0.1)
    until(lambda: len(worker.numbers("end")) == 2, 1.4, "the second ends before the first one's child")
    assert worker.numbers("start") == [0, 1]
    until(lambda: len(worker.numbers("end")) == 3, 10, "the third has its child, too")
    times = [float(at) for _number, _pid, at in worker.lines("start")]
    assert times[1] - times[0] >= 0.1, "two tasks ran at once in one slot"


def test_a_child_that_closes_its_pipes_before_it_dies_is_reaped_when_it_does(
    pool_worker: StartWorker, publisher: Celery
) -> None:
    """Looked for only once, each of these would keep its slot until the pool's next round."""
    worker = pool_worker(slots=1, POOL_SLOW_EXIT="0.03").ready()
    send(publisher, range(16))
    until(lambda: len(worker.numbers("end")) == 16, 30, "16 tasks end")
    times = [float(at) for _number, _pid, at in worker.lines("start")]
    assert median(later - earlier for earlier, later in pairwise(times)) < 0.4


def test_a_task_that_leaves_sigterm_ignored_does_not_hold_its_slot(
    pool_worker: StartWorker, publisher: Celery
) -> None:
    worker = pool_worker(slots=1).ready()
    for number in range(8):
        publisher.send_task("pool.ignore_sigterm", [number], queue="normal")
    until(lambda: len(worker.numbers("start")) == 8, 20, "8 tasks start")
    times = [float(at) for _number, _pid, at in worker.lines("start")]
    assert median(later - earlier for earlier, later in pairwise(times)) < 0.5


def test_an_idle_child_that_dies_is_replaced(pool_worker: StartWorker, publisher: Celery) -> None:
    worker = pool_worker().ready()
    before = worker.children()
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    until(lambda: len(set(worker.children()) - set(before)) == len(before), 5, "as many new children")
    send(publisher, range(2))
    until(lambda: len(worker.numbers("end")) == 2, 5, "two tasks end")


def test_children_die_with_a_killed_worker(pool_worker: StartWorker, publisher: Celery) -> None:
    worker = pool_worker().ready()
    send(publisher, range(1), seconds=60)
    until(lambda: worker.numbers("start"), 5, "the task starts")
    children = [*worker.children(), worker.fork_server()]
    worker.process.kill()
    worker.process.wait(10)
    until(lambda: not any(lives(pid) for pid in children), 5, "children gone")


def test_a_warm_shutdown_waits_for_the_running_task(pool_worker: StartWorker, publisher: Celery) -> None:
    worker = pool_worker().ready()
    send(publisher, range(2), seconds=1.5)
    until(lambda: len(worker.numbers("start")) == 2, 5, "the tasks start")
    assert worker.stop() == 0
    assert sorted(worker.numbers("end")) == [0, 1]


def test_an_untraced_task_that_fails_is_told_and_leaves_its_slot(
    pool_worker: StartWorker, publisher: Celery
) -> None:
    worker = pool_worker(slots=1).ready()
    for token in ("fail", "good"):
        publisher.send_task("workers.supervise", [TASK, 1, token], queue="normal")
    until(lambda: len(worker.lines("supervise")) == 2, 10, "both were called")
    assert worker.lines("supervise") == [[TASK, "1", "fail"], [TASK, "1", "good"]]
    until(lambda: "asked to fail" in worker.said(), 5, "the error is in the log")


@pytest.mark.timeout(120)
def test_random_kills_lose_only_the_tasks_of_killed_children_and_no_slot(
    pool_worker: StartWorker, publisher: Celery
) -> None:
    """300 tasks at least while children are killed at random: running, starting, idle, exiting ones.

    The fork server is one of them.
    """
    worker = pool_worker(slots=3).ready()
    dice = random.Random(20261121)
    total, kills = 300, 0
    send(publisher, range(total), seconds=0.01)
    deadline = time.monotonic() + 90
    while len({*worker.numbers("end"), *worker.numbers("lost")}) < total:
        if kills <= 50 and len(worker.numbers("start")) > total - 50:
            # A fast machine would have done them all before that many were killed.
            send(publisher, range(total, total + 100), seconds=0.01)
            total += 100
        assert worker.alive(), worker.said()
        assert time.monotonic() < deadline, "the worker stands still"
        time.sleep(dice.uniform(0.01, 0.12))
        if children := [*worker.children(), *worker.children("fork server")]:
            try:
                os.kill(dice.choice(children), signal.SIGKILL)
                kills += 1
            except ProcessLookupError:
                pass
    started = worker.numbers("start")
    assert len(started) == len(set(started)), "a task started twice"
    assert kills > 50
    assert len(worker.numbers("lost")) <= kills
    assert set(worker.numbers("end")) | set(worker.numbers("lost")) == set(range(total))
    until(
        lambda: worker.facts()["ready"] == 3 + worker.spare and worker.facts()["busy"] == 0,
        10,
        "slots live",
    )
    send(publisher, range(1000, 1003), seconds=1)
    until(lambda: len(set(worker.numbers("start")) & {1000, 1001, 1002}) == 3, 5, "all slots work")
    assert not {1000, 1001, 1002} & set(worker.numbers("end")), "they ran one after the other"
