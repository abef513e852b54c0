"""A sandboxed process: what reaches it, how it ends, and that nothing of it stays."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.workers.sandbox.running import Finished, read_until, until
from workers.sandbox import Launch, Level, Limits, Sandboxed, become_subreaper, spawn
from workers.sandbox.tree import processes

Run = Callable[..., Finished]
Start = Callable[..., Sandboxed]
MIB = 1024 * 1024


@pytest.fixture(autouse=True)
def _subreaper() -> None:
    become_subreaper()


def sleepers() -> list[int]:
    found = []
    for pid in processes():
        try:
            if b"61.25" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
        except OSError:
            continue
    return found


def test_the_environment_is_clean_and_secrets_are_in_neither_it_nor_the_arguments(
    level: Level, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgres://secret")
    finished = run(level, "echo", job={"secrets": {"TOKEN": "s3cret"}}, marker="run:1")
    data = finished.messages[-1]["data"]
    assert data["secret"] == "s3cret"
    assert data["environment"]["SWITCHYARD_RUN"] == "run:1"
    assert set(data["environment"]) <= {
        "PATH", "HOME", "TMPDIR", "LANG", "PYTHONUNBUFFERED", "SWITCHYARD_RUN", "LC_CTYPE",
    }  # fmt: skip
    assert "s3cret" not in str(data["environment"]) + str(data["arguments"])


def test_a_job_larger_than_any_pipe_arrives_whole(level: Level, run: Run) -> None:
    finished = run(level, "echo", {"text": "x" * 3 * MIB})
    assert finished.messages[-1]["data"]["size"] == 3 * MIB


def test_an_asked_handler_stops_at_once_and_cleans_up_newest_first(level: Level, start: Start) -> None:
    sandboxed = start(level, "polite")
    read_until(sandboxed.stdout, b"ready")
    sandboxed.cancel("user_cancelled")
    assert b'"code":"cancelled","message":"user_cancelled"' in read_until(sandboxed.messages, b"\n")
    said = read_until(sandboxed.stdout, b"first registered")
    assert said.index(b"last registered") < said.index(b"first registered")
    assert sandboxed.wait(5).code == 1


def test_sigterm_runs_the_cleanups_of_a_handler_that_never_asks(level: Level, start: Start) -> None:
    sandboxed = start(level, "deaf")
    read_until(sandboxed.stdout, b"ready")
    sandboxed.terminate()
    read_until(sandboxed.stdout, b"cleaned")
    assert sandboxed.wait(5).code == 1


def test_sigterm_sent_before_the_handler_exists_is_not_lost(level: Level, start: Start) -> None:
    sandboxed = start(level, "deaf")
    sandboxed.terminate()
    assert sandboxed.wait(10).reason in ("exited", "signalled")


def test_a_handler_that_swallows_sigterm_is_killed(level: Level, start: Start) -> None:
    sandboxed = start(level, "stubborn")
    read_until(sandboxed.stdout, b"ready")
    sandboxed.terminate()
    with pytest.raises(TimeoutError):
        sandboxed.wait(0.2)
    assert sandboxed.kill() == []
    assert sandboxed.wait(5).signal == "SIGKILL"


def test_killing_a_run_kills_what_left_its_session(level: Level, start: Start) -> None:
    sandboxed = start(level, "litter")
    read_until(sandboxed.stdout, b"ready")
    assert len(sleepers()) >= 10
    used = sandboxed.usage()
    assert used.processes >= 11
    assert used.rss_bytes > MIB
    assert sandboxed.kill() == []
    sandboxed.wait(5)
    assert sleepers() == []


def test_what_a_finished_handler_left_behind_dies_with_it(level: Level, run: Run) -> None:
    finished = run(level, argv=("/bin/sh", "-c", "setsid sleep 61.25 >/dev/null 2>&1 & echo done"))
    assert finished.stdout == "done\n"
    assert sleepers() == []


def test_a_known_failure_keeps_its_code_and_an_unknown_one_names_its_class(
    level: Level, run: Run
) -> None:
    assert run(level, "known").messages == [
        {"op": "error", "code": "no_such_org", "message": "The org is gone.", "detail": {"org": "x"},
         "retry": False}
    ]  # fmt: skip
    finished = run(level, "unknown")
    (error,) = finished.messages
    assert (error["code"], error["type"], len(error["message"])) == (
        "handler_error",
        "LookupError",
        4000,
    )
    assert "m" * 10000 in finished.stderr


def test_a_result_that_is_no_json_is_an_error(level: Level, run: Run) -> None:
    (error,) = run(level, "no_json").messages
    assert error["code"] == "handler_error"


def test_a_handler_may_exit_by_itself_and_is_cleaned_up(level: Level, run: Run) -> None:
    finished = run(level, "leave")
    assert (finished.exit.code, finished.stdout) == (7, "cleaned\n")


def test_what_a_handler_left_to_the_end_of_its_process_is_done(level: Level, run: Run) -> None:
    done = run(level, "untidy")
    assert done.exit.code == 0
    assert done.stdout == "the thread has ended\nat exit"
    assert [Path(name).read_bytes() for name in done.messages[-1]["data"]["files"]] == [b"kept"] * 3


def test_a_command_replaces_the_handler_and_gets_its_input(level: Level, run: Run) -> None:
    script = (
        "cat; echo $A; pwd; for n in 3 4 5 6 7 8 9; do test -e /dev/fd/$n && echo open $n; done; exit 4"
    )
    params = {"argv": ["/bin/sh", "-c", script], "env": {"A": "b"}, "stdin": "in\n"}
    finished = run(level, "command", params)
    assert finished.stdout.split("\n")[:2] == ["in", "b"]
    assert finished.stdout.endswith("/run-0/work\n")
    assert finished.exit.code == 4


@pytest.mark.parametrize("folder", ["..", "/etc", "missing"])
def test_a_command_starts_nowhere_but_in_its_workspace(level: Level, run: Run, folder: str) -> None:
    (error,) = run(level, "command", {"argv": ["true"], "cwd": folder}).messages
    assert error["code"] == "bad_workdir"


def test_a_command_that_does_not_exist_says_so(level: Level, run: Run) -> None:
    (error,) = run(level, "command", {"argv": ["no-such-program"]}).messages
    assert error["code"] == "command_not_found"


def test_a_signal_is_reported_by_its_name(level: Level, run: Run) -> None:
    finished = run(level, "workers.handlers.dummy:behave", {"signal": "SEGV"})
    assert (finished.exit.code, finished.exit.signal) == (None, "SIGSEGV")


def test_cpu_time_is_counted_and_limited(level: Level, run: Run) -> None:
    argv = ("/bin/sh", "-c", "while :; do :; done")
    finished = run(level, argv=argv, limits=Limits(cpu_seconds=1))
    assert finished.exit.signal == "SIGXCPU"
    # The kernel counts whole ticks for the limit and exact time for the report.
    assert finished.exit.cpu_seconds > 0.5


def test_what_cannot_be_built_is_told_and_never_runs(base: Path) -> None:
    (base / "broken").mkdir()
    launch = Launch(level=Level.PROCESS, workspace=base / "broken", argv=("/bin/true",))
    with spawn(launch) as sandboxed:
        ending = sandboxed.wait(10)
    assert ending.reason in ("sandbox", "exited")
    assert ending.code != 0


def test_the_handler_dies_with_its_supervisor(level: Level, base: Path) -> None:
    code = (
        "import os, sys, signal; from pathlib import Path; from workers.sandbox import *\n"
        f"w = make_workspace(Path({str(base)!r}), 'w')\n"
        f"s = spawn(Launch(level=Level({level.value!r}), workspace=w, argv=('/bin/sleep', '61.25')))\n"
        "print(s.pid, flush=True); signal.pause()"
    )
    root = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": f"{root}:{root}/platform"}
    supervisor = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment)
    assert supervisor.stdout is not None
    supervisor.stdout.readline()
    until(lambda: bool(sleepers()))
    supervisor.kill()
    supervisor.wait()
    supervisor.stdout.close()
    until(lambda: not sleepers())


HIDDEN_MEMORY = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
try:
    os.memfd_create("x")
    print("memfd")
except OSError as error:
    print(error.strerror)
secret = ctypes.CDLL(None, use_errno=True).syscall(447, 0)
print("secret" if secret >= 0 else os.strerror(ctypes.get_errno()))
segment = libc.shmget(0x5157, 4096, 0o1600)
print("shared" if segment >= 0 else os.strerror(ctypes.get_errno()))
"""


def test_memory_that_no_limit_sees_is_refused_and_none_of_it_stays(level: Level, run: Run) -> None:
    by_level = {
        Level.FULL: ["Function not implemented", "Function not implemented", "shared"],
        Level.CONTAINER: [
            "Function not implemented",
            "Function not implemented",
            "Operation not permitted",
        ],
    }
    if level not in by_level:
        return  # it is open, as docs/isolation.md says
    finished = run(level, argv=("python3", "-c", HIDDEN_MEMORY))
    assert finished.stdout.splitlines() == by_level[level], finished.stderr
    assert str(0x5157) not in Path("/proc/sysvipc/shm").read_text().split()
