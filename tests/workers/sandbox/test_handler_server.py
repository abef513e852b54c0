"""Handlers that a warm server forks: as fresh, as shut in and as surely ended as exec'd ones."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.workers.sandbox.conftest import AVAILABLE
from tests.workers.sandbox.running import Finished, read_all, until
from workers.sandbox import Launch, Level, Sandboxed, handler_server, make_workspace, spawn
from workers.sandbox.handler_server import (
    WALLS,
    HandlerServer,
    close_servers,
    keep_servers_running,
    start_servers,
    start_wall_server,
)
from workers.sandbox.tree import descendants, processes

Run = Callable[..., Finished]
Start = Callable[..., Sandboxed]
HERE = Path(__file__).parent
MODULES = ["hostile", "workers.handlers.dummy", "workers.handlers.shell"]


@pytest.fixture(autouse=True)
def _servers() -> Iterator[None]:
    start_servers(MODULES, [str(HERE)])
    if AVAILABLE.available[Level.FULL]:
        start_wall_server()
    yield
    close_servers()


full_works = pytest.mark.skipif(
    not AVAILABLE.available[Level.FULL], reason=f"level full: {AVAILABLE.reasons.get(Level.FULL)}"
)


def the_server() -> HandlerServer:
    return handler_server._servers["hostile"]


def is_alive(pid: int) -> bool:
    process = processes().get(pid)
    return process is not None and process.state not in "ZX"


def test_a_handler_is_forked_by_the_server_and_guarded_by_a_keeper(start: Start) -> None:
    sandboxed = start(Level.PROCESS, "workers.handlers.dummy:behave", {"seconds": 60})
    assert sandboxed.served
    keeper = processes()[sandboxed.pid]
    assert keeper.parent == handler_server._servers["workers.handlers"].pid
    until(lambda: sandboxed.usage().processes == 1)


@full_works
def test_at_level_full_a_server_builds_the_walls_and_the_handler_is_exec_d(start: Start) -> None:
    sandboxed = start(Level.FULL, "workers.handlers.dummy:behave", {"seconds": 60})
    assert sandboxed.served
    assert processes()[sandboxed.pid].parent == handler_server._servers[WALLS].pid

    def lines() -> list[bytes]:
        below = descendants(sandboxed.pid)
        return [Path(f"/proc/{each.pid}/cmdline").read_bytes() for each in below]

    until(lambda: len(lines()) == 2 and b"inside.handler" in lines()[1])
    assert b"inside.server" in lines()[0]


@full_works
def test_at_level_full_a_command_needs_no_interpreter_of_its_own(start: Start) -> None:
    command = {"command": ["/bin/sleep", "60"]}
    sandboxed = start(Level.FULL, "workers.handlers.shell:run_command", command, job={"secrets": {}})

    def lines() -> list[bytes]:
        below = descendants(sandboxed.pid)
        return [Path(f"/proc/{each.pid}/cmdline").read_bytes() for each in below]

    until(lambda: lines()[1:] == [b"/bin/sleep\x0060\x00"])
    assert b"inside.server" in lines()[0]


@full_works
def test_a_run_behind_walls_outlives_the_server_that_built_them(start: Start) -> None:
    sandboxed = start(Level.FULL, "workers.handlers.dummy:behave", {"seconds": 60})
    until(lambda: sandboxed.usage().processes == 1)
    server = handler_server._servers[WALLS].pid
    os.kill(server, signal.SIGKILL)
    until(lambda: not is_alive(server))
    assert is_alive(sandboxed.pid)
    assert sandboxed.usage().processes == 1


def test_no_run_finds_what_another_has_left_in_memory(run: Run) -> None:
    first, second = (run(Level.PROCESS, "remember") for _ in range(2))
    assert [each.messages[-1]["data"]["seen"] for each in (first, second)] == [[], []]


def test_no_two_runs_draw_the_same_random_numbers(run: Run) -> None:
    first, second = (run(Level.PROCESS, "remember") for _ in range(2))
    assert first.messages[-1]["data"]["random"] != second.messages[-1]["data"]["random"]


def test_a_handler_has_no_descriptor_of_the_server(run: Run) -> None:
    finished = run(Level.PROCESS, "remember")
    assert finished.messages[-1]["data"]["descriptors"] == [0, 1, 2, 3, 4]


def test_a_handler_whose_keeper_is_killed_dies_with_it(start: Start) -> None:
    sandboxed = start(Level.PROCESS, "workers.handlers.dummy:behave", {"seconds": 60})
    until(lambda: sandboxed.usage().processes == 1)
    (handler,) = (each.pid for each in processes().values() if each.parent == sandboxed.pid)
    os.kill(sandboxed.pid, signal.SIGKILL)
    assert sandboxed.wait(5).signal == "SIGKILL"
    until(lambda: not is_alive(handler))


@pytest.mark.parametrize("level", [pytest.param(Level.FULL, marks=full_works), Level.PROCESS])
def test_a_run_of_a_server_ends_when_the_supervisor_is_gone(base: Path, level: Level) -> None:
    how = "start_wall_server()" if level is Level.FULL else "start_servers(['workers.handlers.shell'])"
    code = (
        "import sys, signal; from pathlib import Path; from workers.sandbox import *\n"
        f"from workers.sandbox.handler_server import *; {how}\n"
        f"w = make_workspace(Path({str(base)!r}), 'w')\n"
        f"s = spawn(Launch(level=Level('{level}'), workspace=w,\n"
        "    argv=('/bin/sh', '-c', 'setsid sleep 62.25 & setsid sleep 62.25 & wait')))\n"
        "assert s.served; print(s.pid, flush=True); signal.pause()"
    )
    root = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": f"{root}:{root}/platform"}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment) as lost:
        assert lost.stdout is not None
        keeper = int(lost.stdout.readline())
        try:
            until(lambda: len(sleepers()) == 2)
        finally:
            lost.kill()
    until(lambda: not sleepers())
    until(lambda: not is_alive(keeper))


def sleepers() -> list[int]:
    found = []
    for pid in processes():
        try:
            if Path(f"/proc/{pid}/cmdline").read_bytes() == b"sleep\x0062.25\0":
                found.append(pid)
        except OSError:
            continue
    return found


def test_without_its_server_a_handler_is_exec_d_and_a_server_that_died_is_started_again(
    start: Start, run: Run
) -> None:
    server = the_server()
    before = server.pid
    os.kill(before, signal.SIGKILL)
    until(lambda: not is_alive(before))
    sandboxed = start(Level.PROCESS, "remember")
    assert not sandboxed.served
    assert read_all(sandboxed)[2]
    keep_servers_running()
    assert server.pid != before
    assert run(Level.PROCESS, "remember").messages[-1]["op"] == "result"


def test_a_server_that_answers_too_late_starts_nothing(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handler_server, "ANSWER_SECONDS", 0.2)
    server = the_server()
    os.kill(server.pid, signal.SIGSTOP)
    sandboxed = start(Level.PROCESS, "remember")
    os.kill(server.pid, signal.SIGCONT)
    assert not sandboxed.served
    assert read_all(sandboxed)[2].count(b'"op":"result"') == 1
    # The keeper that it forks now finds no plan, and leaves.
    until(lambda: not [each for each in processes().values() if each.parent == server.pid])


def test_a_module_that_cannot_be_imported_stops_no_server(run: Run, base: Path) -> None:
    close_servers()
    start_servers(["hostile", "hostile.no_such_module"], [str(HERE)])
    assert run(Level.PROCESS, "remember").messages[-1]["op"] == "result"


def test_a_forked_handler_is_sooner_there_than_an_exec_d_one(base: Path) -> None:
    def seconds(number: int) -> float:
        workspace = make_workspace(base, f"w{number}")
        began = time.monotonic()
        job = {"handler": "workers.handlers.dummy:behave", "params": {}, "python_path": [str(HERE)]}
        with spawn(Launch(level=Level.PROCESS, workspace=workspace, job=job)) as sandboxed:
            read_all(sandboxed)
            sandboxed.wait(10)
        return time.monotonic() - began

    seconds(0)
    served = min(seconds(number) for number in range(1, 8))
    close_servers()
    executed = min(seconds(number) for number in range(8, 15))
    assert served < executed
