"""The fork server: it forks the worker's own children, and nobody depends on it."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import pytest
from celery import Celery

from tests.processes import lives
from tests.workers.conftest import Worker, until
from workers import fork_server
from workers.fork_server import ForkServer
from workers.sandbox.inside import kernel
from workers.sandbox.tree import children, processes

StartWorker = Callable[..., Worker]


def tell(descriptors: Sequence[int], number: int) -> NoReturn:
    """What a child does here: write who it is, and its number."""
    os.write(descriptors[0], f"{os.getpid()} {os.getppid()} {number}".encode())
    os._exit(7)


def told_by(server: ForkServer, number: int) -> tuple[int, list[int]]:
    """Fork a child; give its pid, and what it says."""
    ours, theirs = os.pipe()
    pid = server.fork([theirs], number)
    os.close(theirs)
    said = os.read(ours, 100)
    os.close(ours)
    return pid, [int(word) for word in said.split()]


def assert_a_child_is_forked(server: ForkServer, number: int) -> None:
    pid, said = told_by(server, number)
    os.waitpid(pid, 0)
    assert said == [pid, os.getpid(), number]


@pytest.fixture
def server() -> Iterator[ForkServer]:
    made = ForkServer(tell, lambda: None, lambda: None)
    made.start()
    yield made
    made.close()


def test_its_children_are_those_of_whoever_asks(server: ForkServer) -> None:
    assert server.pid
    pid, said = told_by(server, 5)
    assert said == [pid, os.getpid(), 5]
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


def test_random_numbers_differ_between_its_children() -> None:
    def draw(descriptors: Sequence[int], _number: int) -> NoReturn:
        import random

        from uuid_utils.compat import uuid7

        os.write(descriptors[0], f"{random.getrandbits(62)} {uuid7().int & (2**62 - 1)}".encode())
        os._exit(0)

    import uuid_utils.compat

    uuid_utils.compat.uuid7()  # its generator exists before the fork
    server = ForkServer(draw, lambda: None, lambda: None)
    server.start()
    drawn = []
    for _ in range(8):
        pid, said = told_by(server, 0)
        os.waitpid(pid, 0)
        drawn += said
    server.close()
    assert len(set(drawn)) == 16


LOAD = """
import django
django.setup()
import celery.apps.worker, celery.bin.worker, kombu.transport.redis, kombu.transport.pyamqp
import workers.celery_app, workers.supervisor, workers.worker_pool
"""
LIBRARIES = """
print(*sorted({line.split()[-1] for line in open("/proc/self/maps") if ".so" in line}), sep="\\n")
"""
LISTEN = """
import os, sys
def register_at_fork(*, after_in_child=None, **_others):
    if after_in_child is not None:
        module = sys._getframe(1).f_globals["__name__"]
        print(module, after_in_child.__qualname__)
os.register_at_fork = register_at_fork
"""


def test_modules_of_a_worker_have_nothing_else_to_renew_in_a_fork_than_what_is_renewed() -> None:
    """Nothing that they have registered is done. A new line here is to be thought about: is it about
    threads and their locks, of which there are none, or something to be renewed in each child?"""
    about_locks = {
        "threading _after_fork",
        "logging _after_at_fork_child_reinit_locks",
        "concurrent.futures.thread lock._at_fork_reinit",
    }
    renewed = {"random Random.seed", "uuid_utils reseed"}
    assert set(said_by_a_worker(LISTEN + LOAD)) == about_locks | renewed
    done = {each.__qualname__ for each in fork_server.RENEWED}
    assert done == {each.split()[1] for each in renewed}


def test_no_library_of_a_worker_counts_on_the_c_librarys_fork() -> None:
    """Its handlers (`pthread_atfork`) are not called; whoever has some would share its state, as of
    random numbers, with its siblings."""
    libraries = [Path(each) for each in said_by_a_worker(LOAD + LIBRARIES) if each]
    assert any("libssl" in each.name for each in libraries)
    counting = [each.name for each in libraries if b"atfork" in each.read_bytes()]
    assert [name for name in counting if not name.startswith(("libc.so", "libc-", "libpthread"))] == []


def said_by_a_worker(program: str) -> list[str]:
    """Return the lines that a process prints which sees the settings of a worker."""
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "SWITCHYARD_ROLE": "worker",
    }
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    command = [sys.executable, "-c", program]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return said.stdout.splitlines()


def test_without_one_the_process_forks_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "bare_fork", lambda _flags: None)
    prepared: list[int] = []
    server = ForkServer(tell, lambda: prepared.append(1), lambda: None)
    server.start()
    assert server.pid == 0
    assert_a_child_is_forked(server, 6)
    assert prepared == [1]


def test_a_fork_that_the_kernel_refuses_is_an_error_as_without_a_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused() -> int:
        raise BlockingIOError(errno.EAGAIN, "clone")

    monkeypatch.setattr(kernel, "bare_fork", lambda _flags: refused)
    server = ForkServer(tell, lambda: None, lambda: None)
    server.start()
    with pytest.raises(BlockingIOError):
        told_by(server, 0)
    server.close()


def test_a_server_that_was_killed_is_replaced(server: ForkServer) -> None:
    first = server.pid
    os.kill(first, signal.SIGKILL)
    assert_a_child_is_forked(server, 1)
    assert server.pid not in (0, first)
    assert_a_child_is_forked(server, 2)


def test_a_child_of_which_the_server_could_not_tell_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would take the job of the one that is forked in its place, whose slot would never be free."""
    clone = kernel.bare_fork(kernel.CLONE_PARENT)
    assert clone is not None

    def last_clone() -> int:
        pid = clone()
        if pid:
            os._exit(1)
        return pid

    def stay(_descriptors: Sequence[int], _number: int) -> NoReturn:
        signal.alarm(10)  # whatever becomes of the test
        signal.pause()
        os._exit(0)

    monkeypatch.setattr(kernel, "bare_fork", lambda _flags: last_clone)
    before = set(children(os.getpid()))
    server = ForkServer(stay, lambda: None, lambda: None)
    server.start()
    pid = server.fork([], 0)
    assert set(children(os.getpid())) - before == {pid, server.pid}
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    server.close()


def test_a_server_that_stands_still_is_replaced(
    server: ForkServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fork_server, "ANSWER_SECONDS", 0.2)
    first = server.pid
    os.kill(first, signal.SIGSTOP)
    assert_a_child_is_forked(server, 1)
    assert server.pid not in (0, first)
    assert not lives(first)


def test_a_killed_server_takes_no_run_with_it(pool_worker: StartWorker, publisher: Celery) -> None:
    worker = pool_worker(slots=2).ready()
    publisher.send_task("pool.work", [1, 2], queue="normal")
    until(lambda: worker.numbers("start") == [1], 5, "the task runs")
    first = worker.fork_server()
    assert processes()[worker.children()[0]].parent == worker.process.pid
    os.kill(first, signal.SIGKILL)
    for number in (2, 3, 4):
        publisher.send_task("pool.work", [number, 0], queue="normal")
    until(lambda: sorted(worker.numbers("end")) == [1, 2, 3, 4], 10, "all four end")
    assert worker.numbers("lost") == []
    assert worker.fork_server() != first
