"""The worker's main process: its heartbeat file, its drain, what it closes to others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from celery import Celery

from tests.workers.conftest import Valkey, Worker, until
from workers import worker_steps

StartWorker = Callable[..., Worker]


def test_the_heartbeat_file_says_what_the_worker_does(
    pool_worker: StartWorker, publisher: Celery
) -> None:
    worker = pool_worker(slots=2).ready()
    publisher.send_task("pool.work", [1, 3], queue="normal")
    until(lambda: worker.facts()["busy"] == 1, 5, "one busy slot is reported")
    facts = worker.facts()
    assert facts["pid"] == worker.process.pid
    assert facts["queues"] == ["normal"]
    assert (facts["slots"], facts["ready"]) == (2, 2 + worker.spare)
    assert facts["draining_since"] is None
    assert 0 <= time.monotonic() - facts["monotonic"] < 2
    assert facts["started_at"] <= facts["at"] <= time.time()
    tick = facts["tick"]
    until(lambda: worker.facts()["tick"] >= tick + 2, 4, "two beats in four seconds")


def test_a_child_that_was_killed_is_told_with_its_exit_code(
    pool_worker: StartWorker, publisher: Celery
) -> None:
    worker = pool_worker(slots=2).ready()
    publisher.send_task("pool.work", [1, 30], queue="normal")
    until(lambda: worker.lines("start"), 5, "the task runs")
    assert worker.facts()["dead_children"] == []
    victims = worker.children()
    os.kill(victims[0], signal.SIGKILL)
    until(lambda: worker.facts()["dead_children"], 5, "the death is told")
    assert worker.facts()["dead_children"] == [[1, victims[0], -signal.SIGKILL]]


def test_children_that_end_well_are_not_told(pool_worker: StartWorker, publisher: Celery) -> None:
    """Each that is told costs its machine's pool manager a question about its run."""
    worker = pool_worker(slots=2).ready()
    for number in range(6):
        publisher.send_task("pool.work", [number, 0], queue="normal")
    until(lambda: len(worker.numbers("end")) == 6, 10, "six end")
    tick = worker.ready().facts()["tick"]
    until(lambda: worker.facts()["tick"] >= tick + 2, 5, "two beats after it")
    assert worker.facts()["dead_children"] == []


def test_the_heartbeat_goes_on_after_a_reconnect(own_valkey: Valkey, pool_worker: StartWorker) -> None:
    worker = pool_worker().ready()
    own_valkey.stop()
    until(lambda: not worker.facts()["connected"], 10, "the loss is reported")
    own_valkey.start()
    worker.ready()
    tick = worker.facts()["tick"]
    until(lambda: worker.facts()["tick"] >= tick + 3, 6, "beats after the reconnect")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if made.returncode:
        pytest.skip(f"mounting a small file system is refused here: {made.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(path: Path) -> None:
    """Write until the disk is full."""
    with suppress(OSError), path.open("wb", buffering=0) as stream:
        while True:
            stream.write(bytes(4096))


def test_a_worker_on_a_full_disk_still_shows_that_it_lives(
    pool_worker: StartWorker, small_disk: Path
) -> None:
    fill(small_disk / "rubbish")
    file = small_disk / "worker.json"
    worker = pool_worker(SWITCHYARD_WORKER_FILE=str(file))
    worker.file = file
    until(file.exists, 30, "a file although nothing can be written")
    beats_on(file)
    assert file.stat().st_size == 0
    (small_disk / "rubbish").unlink()
    until(lambda: file.stat().st_size, 5, "the facts, once there is room")
    before = worker.ready().facts()
    fill(small_disk / "rubbish")
    beats_on(file)
    assert worker.facts()["pid"] == before["pid"], "what it said last still stands there"
    assert {path.name for path in small_disk.iterdir()} == {"rubbish", "worker.json"}
    assert worker.said().count("could not be written") == 2, "told once each time, not every second"


def beats_on(file: Path) -> None:
    """Wait for three changes of the file's time."""
    for _ in range(3):
        touched = file.stat().st_mtime_ns
        until(lambda old=touched: file.stat().st_mtime_ns != old, 5, "another beat")


def test_a_worker_that_stands_still_stops_beating(pool_worker: StartWorker) -> None:
    worker = pool_worker().ready()
    worker.process.send_signal(signal.SIGSTOP)
    until(lambda: time.time() - worker.facts()["at"] > 2.5, 5, "the file grows old")
    worker.process.send_signal(signal.SIGCONT)
    until(lambda: time.time() - worker.facts()["at"] < 1, 5, "it beats again")


def test_a_child_learns_of_the_drain_and_the_file_goes_with_the_worker(
    pool_worker: StartWorker, publisher: Celery
) -> None:
    worker = pool_worker().ready()
    publisher.send_task("pool.await_drain", [1], queue="normal")
    publisher.send_task("pool.work", [2, 2.5], queue="normal")
    until(lambda: len(worker.numbers("start")) == 2, 5, "both start")
    worker.process.terminate()
    until(lambda: worker.lines("drained"), 5, "the child sees the drain")
    assert 0 <= float(worker.lines("drained")[0][1]) < 1
    until(lambda: worker.facts()["draining_since"], 5, "the file reports the drain")
    assert worker.process.wait(20) == 0
    assert worker.numbers("end") == [2]
    assert not worker.file.exists()


def test_a_worker_that_is_told_to_leave_ends_with_its_last_task_and_tells_no_child(
    pool_worker: StartWorker, publisher: Celery
) -> None:
    worker = pool_worker().ready()
    publisher.send_task("pool.work", [1, 4], queue="normal")
    until(lambda: worker.numbers("start") == [1], 5, "it runs")
    worker.process.send_signal(worker_steps.LEAVE_SIGNAL)
    tick = worker.facts()["tick"]
    until(lambda: worker.facts()["tick"] >= tick + 2, 5, "it beats on")
    assert worker.facts()["draining_since"] is None
    publisher.send_task("pool.work", [2, 0], queue="normal")
    assert worker.process.wait(20) == 0
    assert (worker.numbers("start"), worker.numbers("end")) == ([1], [1])
    assert not worker.file.exists()


def test_a_worker_that_leaves_hears_all_the_same_that_its_machine_stops(
    pool_worker: StartWorker, publisher: Celery
) -> None:
    worker = pool_worker().ready()
    publisher.send_task("pool.await_drain", [1], queue="normal")
    until(lambda: worker.numbers("start") == [1], 5, "it runs")
    worker.process.send_signal(worker_steps.LEAVE_SIGNAL)
    tick = worker.facts()["tick"]
    until(lambda: worker.facts()["tick"] >= tick + 2, 5, "it leaves")
    assert not worker.lines("drained")
    worker.process.terminate()
    until(lambda: worker.lines("drained"), 5, "its child learns of the drain")
    assert worker.process.wait(20) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="a flag of Linux")
def test_the_worker_and_its_children_are_undumpable(pool_worker: StartWorker, publisher: Celery) -> None:
    """The flag of a child is the one that its parent had at the fork."""
    worker = pool_worker().ready()
    publisher.send_task("pool.dumpable", queue="normal")
    until(lambda: worker.lines("dumpable"), 5, "the task reports the flag")
    assert worker.lines("dumpable") == [["0"]]


@pytest.mark.parametrize("queue", ["normal,batch", "system", "normal,system"])
def test_a_pools_worker_serves_one_pools_queue_and_no_other(
    pool_worker: StartWorker, queue: str
) -> None:
    worker = pool_worker(queue=queue)
    assert worker.process.wait(20) != 0
    assert "A pool's worker serves one queue" in worker.said()


def test_a_worker_that_keeps_its_children_serves_the_system_queue_alone(
    pool_worker: StartWorker, publisher: Celery
) -> None:
    wrong = pool_worker(queue="normal", POOL_KEPT="1")
    assert wrong.process.wait(20) != 0
    assert "The system worker serves -Q system alone" in wrong.said()
    worker = pool_worker(queue="system", slots=1, POOL_KEPT="1").ready()
    for number in range(3):
        publisher.send_task("pool.work", [number], queue="system")
    until(lambda: len(worker.numbers("end")) == 3, 5, "three tasks end")
    assert len({pid for _number, pid, _at in worker.lines("start")}) == 1
