"""The supervisor's rules: restart with back-off, bounded stops, nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.supervision import programs
from ops.supervision.processes import children, descendants, working_in
from ops.supervision.programs import Program, Watched, rotate, tail
from ops.supervision.watch import ending

# The tests' own process becomes a subreaper for the time of a test: each runs in a child instead.
SCRIPT = '''
import sys
from pathlib import Path
from ops.supervision.programs import Program
from ops.supervision.watch import Watch, Interrupted
import os, signal, time
folder = Path(sys.argv[1])
def program(name, code, **more):
    return Program(name=name, argv=(sys.executable, "-S", "-c", code), environment={},
                   directory=folder, log=folder / f"{name}.log", **more)
def say(text): print(text, flush=True)
STUBBORN = """
import signal, time, pathlib
signal.signal(15, signal.SIG_IGN)
pathlib.Path('up').touch()
time.sleep(60)
"""
FORSAKING = """
import os, subprocess
child = subprocess.Popen(['sleep', '60'], start_new_session=True)
open('draft', 'w').write(str(child.pid))
os.rename('draft', 'orphan')
os._exit(3)
"""
'''


def run(tmp_path: Path, body: str, *, seconds: float = 30) -> list[str]:
    """Run a supervisor in a process of its own; return the lines it printed."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT + body, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=seconds,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def program(tmp_path: Path, **more: object) -> Program:
    """A program that is never started."""
    values: dict[str, object] = {
        "name": "thing",
        "argv": ("true",),
        "environment": {},
        "directory": tmp_path,
        "log": tmp_path / "thing.log",
    }
    return Program(**(values | more))  # type: ignore[arg-type]


def test_a_program_that_dies_is_started_again(tmp_path: Path) -> None:
    lines = run(
        tmp_path,
        """
with Watch(say) as watch:
    one = watch.add(program("one", "import time; time.sleep(60)"))
    old = one.pid
    os.kill(old, signal.SIGKILL)
    assert watch.until(lambda: one.alive and one.pid != old, seconds=10)
    watch.stop()
print("done")
""",
    )
    assert lines == ["one ended (SIGKILL); starting it again", "done"]


def test_the_back_off_doubles_and_is_forgotten_after_a_long_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    monkeypatch.setattr(programs.time, "monotonic", lambda: clock[0])
    watched = Watched(program(tmp_path))
    pauses = []
    for _ in range(8):
        watched.started = clock[0]
        watched.ended(1)
        assert watched.due is not None
        pauses.append(round(watched.due - clock[0], 3))
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    watched.started = clock[0]
    clock[0] += programs.BACKOFF_FORGOTTEN_AFTER
    watched.ended(1)
    assert watched.due == pytest.approx(clock[0] + 0.1)


def test_a_program_that_ignores_its_stop_signal_is_killed_after_its_grace(tmp_path: Path) -> None:
    body = """
with Watch(say) as watch:
    one = watch.add(program("one", STUBBORN, grace=0.5))
    assert watch.until((folder / "up").exists, seconds=10)
    began = time.monotonic()
    watch.stop()
    print(0.4 < time.monotonic() - began < 5)
"""
    assert run(tmp_path, body) == ["True"]


def test_a_program_that_is_let_go_has_all_the_time_it_needs_and_is_not_started_again(
    tmp_path: Path,
) -> None:
    lines = run(
        tmp_path,
        """
PATIENT = '''
import pathlib, signal, sys, time
def leave(*_):
    pathlib.Path("told").touch()
    time.sleep(1)
    sys.exit(0)
signal.signal(signal.SIGUSR2, leave)
pathlib.Path("up").touch()
time.sleep(60)
'''
with Watch(say) as watch:
    watch.add(program("patient", PATIENT, grace=0.1, leave_signal=signal.SIGUSR2))
    watch.until(lambda: (folder / "up").exists(), seconds=10)
    watch.let_go("patient")
    watch.until(lambda: (folder / "told").exists(), seconds=10)
    began = time.monotonic()
    watch.until(lambda: "patient" not in watch.programs, seconds=10)
    say(0.5 < time.monotonic() - began < 9)
""",
    )
    assert lines == ["True"]


def test_a_second_stop_signal_means_now(tmp_path: Path) -> None:
    body = """
with Watch(say) as watch:
    watch.add(program("one", STUBBORN, grace=60))
    assert watch.until((folder / "up").exists, seconds=10)
    os.kill(os.getpid(), signal.SIGTERM)
    began = time.monotonic()
    watch.stop(meanwhile=lambda: os.kill(os.getpid(), signal.SIGTERM))
    print(time.monotonic() - began < 5)
"""
    assert run(tmp_path, body) == ["True"]


def test_what_a_dead_program_leaves_running_is_killed(tmp_path: Path) -> None:
    body = """
with Watch(lambda text: None) as watch:
    watch.add(program("one", FORSAKING))
    assert watch.until((folder / "orphan").exists, seconds=10)
    orphan = int((folder / "orphan").read_text())
    gone = lambda: not os.path.exists(f"/proc/{orphan}")
    print(watch.until(gone, seconds=5))
    watch.stop()
"""
    assert run(tmp_path, body) == ["True"]


def test_kill_9_of_the_supervisor_kills_its_programs(tmp_path: Path) -> None:
    body = """
with Watch(say) as watch:
    one = watch.add(program("one", "import time; time.sleep(60)"))
    print(one.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT + body, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=20,
    )
    pid = int(done.stdout)
    deadline = time.monotonic() + 5
    while Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes():
        assert time.monotonic() < deadline
        os.sched_yield()


def test_a_stop_signal_interrupts_what_is_being_waited_for(tmp_path: Path) -> None:
    body = """
with Watch(say) as watch:
    os.kill(os.getpid(), signal.SIGINT)
    try:
        watch.until(lambda: False, seconds=20)
    except Interrupted:
        print("interrupted")
"""
    assert run(tmp_path, body) == ["interrupted"]


def test_a_hang_up_that_was_to_be_ignored_stays_ignored(tmp_path: Path) -> None:
    body = """
signal.signal(signal.SIGHUP, signal.SIG_IGN)
with Watch(say) as watch:
    os.kill(os.getpid(), signal.SIGHUP)
    print(watch.until(lambda: False, seconds=0.2), signal.getsignal(signal.SIGHUP).name)
    os.kill(os.getpid(), signal.SIGTERM)
    try:
        watch.until(lambda: False, seconds=20)
    except Interrupted:
        print("interrupted")
"""
    assert run(tmp_path, body) == ["False SIG_IGN", "interrupted"]


def test_a_program_that_runs_once_gives_its_exit_code_and_is_not_repeated(tmp_path: Path) -> None:
    body = """
with Watch(say) as watch:
    print(watch.once(program("one", "raise SystemExit(7)"), seconds=10))
    print(watch.once(program("two", "import time; time.sleep(60)"), seconds=0.3))
"""
    assert run(tmp_path, body) == ["7", "None"]


def test_a_heartbeat_that_stops_means_that_it_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heartbeat = tmp_path / "beat"
    heartbeat.touch()
    watched = Watched(program(tmp_path, heartbeat=heartbeat, silence=15, warm_up=30))
    watched.process = subprocess.Popen(["sleep", "60"])
    try:
        watched.started = 0
        assert not watched.hangs(10), "it still warms up"
        assert not watched.hangs(31)
        assert not watched.hangs(45)
        assert watched.hangs(47)
        os.utime(heartbeat, ns=(1, 1))
        assert not watched.hangs(48), "any change is a sign of life, whatever the clock says"
        heartbeat.unlink()
        assert not watched.hangs(49)
        assert watched.hangs(70), "no file at all is silence too"
        watched.stopping = True
        assert watched.hangs(71), "who is let go has no grace that would end it"
        watched.kill_at = 100
        assert not watched.hangs(90), "who drains has its own grace"
    finally:
        watched.process.kill()
        watched.process.wait()


def test_a_large_log_is_moved_aside_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs, "LOG_ROTATE_BYTES", 10)
    log = tmp_path / "x.log"
    for number in range(5):
        log.write_text(f"number {number} is long enough")
        rotate(log)
    assert not log.exists()
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert kept == ["x.log.1", "x.log.2", "x.log.3"]
    assert (tmp_path / "x.log.1").read_text().startswith("number 4")
    log.write_text("short")
    rotate(log)
    assert log.exists()


def test_the_end_of_a_log_is_shown(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_text("\n".join(str(number) for number in range(50_000)))
    assert tail(log, 2) == "49998\n49999"
    assert tail(tmp_path / "missing") == ""


def test_endings_are_words() -> None:
    assert ending(3) == "exit code 3"
    assert ending(-signal.SIGSEGV) == "SIGSEGV"


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that works in tmp_path and has a child."""
    process = subprocess.Popen(["sh", "-c", "sleep 60 & echo; wait"], cwd=tmp_path, stdout=-1)
    assert process.stdout is not None
    process.stdout.readline()
    yield process
    for pid in [*descendants(process.pid), process.pid]:
        os.kill(pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()


def test_processes_are_found_by_parent_and_by_folder(
    sleeper: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    assert sleeper.pid in children(os.getpid())
    below = descendants(sleeper.pid)
    assert len(below) == 1
    assert set(working_in(tmp_path)) == {sleeper.pid, *below}
    assert working_in(tmp_path / "missing") == []
