"""Each limit of a run, by a real supervisor: the run ends, its error names the limit, nothing stays."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from switchyard.handler import LIMITS
from tests.workers.supervisor.conftest import Bench, Guarded
from workers.sandbox import Level
from workers.supervisor import meter
from workers.supervisor.limits import effective_limits, output_cap

MIB = 1024 * 1024
SPIN = "while True: pass"
BOMB = """
import os, time
for number in range(200):
    try:
        os.fork() or time.sleep(60)
    except OSError:
        pass
time.sleep(60)
"""
FAMILY = """
import os, time
all(os.fork() for number in range(9))
time.sleep(1.5)
"""


def ended(bench: Bench, guarded: Guarded, seconds: float = 20) -> dict[str, Any]:
    """Wait for the end, see that nothing is left, and return the run's error."""
    assert guarded.wait(seconds) == 0, guarded.said()
    bench.nothing_is_left(guarded)
    error = guarded.run.error
    assert error is not None, (guarded.run.status, guarded.said())
    assert guarded.task.status == "failed"
    return dict(error)


def test_a_wall_time_limit_ends_the_run_as_timed_out(level: Level, bench: Bench) -> None:
    guarded = bench.start(level, params={"seconds": 60}, time_limit=0.3, max_retries=0)
    assert ended(bench, guarded)["code"] == "timed_out"
    assert (guarded.run.status, guarded.task.status_reason) == ("timed_out", "timed_out")


def test_a_handler_that_ignores_every_request_is_killed_after_the_grace(
    level: Level, bench: Bench
) -> None:
    params = {"seconds": 60, "ignore_sigterm": True, "ignore_cancel": True}
    guarded = bench.start(level, params=params, time_limit=0.2, max_retries=0)
    assert ended(bench, guarded)["code"] == "timed_out"
    run = guarded.run
    assert (run.status, run.signal, run.exit_code) == ("timed_out", "SIGKILL", 137)
    assert run.wall_seconds is not None
    assert run.wall_seconds >= 1.2


def test_a_handler_is_told_why_it_is_stopped(bench: Bench) -> None:
    guarded = bench.start(
        type="tidy.clean_up", params={"seconds": 60, "tell": True}, time_limit=0.3, max_retries=0
    )
    assert ended(bench, guarded)["code"] == "timed_out"
    assert "stopped: timed_out" in guarded.texts("stdout")


def test_sigterm_brings_its_reason_to_a_handler_that_never_asks(bench: Bench) -> None:
    params = {"seconds": 60, "tell": True, "deaf": True}
    guarded = bench.start(type="tidy.clean_up", params=params, time_limit=0.3, max_retries=0)
    assert ended(bench, guarded)["code"] == "timed_out"
    assert "stopped: timed_out" in guarded.texts("stdout")


def test_a_handler_may_finish_within_the_grace_of_its_time_limit(bench: Bench) -> None:
    params = {"seconds": 0.7, "ignore_cancel": True, "ignore_sigterm": True}
    guarded = bench.start(params=params, time_limit=0.3)
    assert guarded.wait() == 0
    assert guarded.task.status == "completed"


def test_a_process_that_spins_is_ended_by_its_cpu_limit(level: Level, bench: Bench) -> None:
    guarded = bench.python(level, SPIN, limits={"cpu_seconds": 1})
    assert ended(bench, guarded)["code"] == "cpu_limit"
    assert guarded.task.failures == 1


def test_cpu_time_is_summed_over_the_tree(level: Level, bench: Bench) -> None:
    # No process comes near the limit of one process; children that have ended count as well.
    script = "while :; do timeout 0.4 python3 -S -c 'while True: pass'; done"
    guarded = bench.shell(level, script, limits={"cpu_seconds": 1})
    assert ended(bench, guarded, 30)["code"] == "cpu_limit"


def test_an_allocation_beyond_the_memory_limit_is_named(level: Level, bench: Bench) -> None:
    guarded = bench.start(level, params={"allocate_mb": 300}, limits={"memory_mb": 128})
    error = ended(bench, guarded)
    assert (error["code"], error["type"]) == ("memory_limit", "MemoryError")
    assert guarded.task.failures == 1


@pytest.mark.parametrize("size", [16 * MIB, 1000])
def test_a_handler_that_eats_all_its_memory_still_says_so(bench: Bench, size: int) -> None:
    guarded = bench.start(
        type="tidy.die", params={"how": "memory", "size": size}, limits={"memory_mb": 64}
    )
    assert ended(bench, guarded)["code"] == "memory_limit"


def test_memory_is_summed_over_the_tree(level: Level, bench: Bench) -> None:
    # 90 MiB each: every process is below the limit, two of them are not.
    one = "import time; held = bytearray(b'x') * (90 << 20); time.sleep(60)"
    guarded = bench.shell(
        level, f'python3 -S -c "{one}" & python3 -S -c "{one}"', limits={"memory_mb": 128}
    )
    assert ended(bench, guarded)["code"] == "memory_limit"
    assert (guarded.run.max_rss_bytes or 0) > 128 * MIB


@pytest.fixture
def counter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the kernel's own counters, for supervisors to read: a test must not starve a machine."""
    copy = tmp_path / "vmstat"
    copy.write_bytes(meter.VMSTAT.read_bytes())
    monkeypatch.setattr(meter, "VMSTAT", copy)
    return copy


@pytest.mark.parametrize(("counted", "code"), [(1, "out_of_memory"), (0, "signal")])
def test_a_handler_that_is_killed_when_the_kernel_runs_out_of_memory_comes_again(
    level: Level, bench: Bench, counter: Path, counted: int, code: str
) -> None:
    guarded = bench.until_it_runs(bench.start(level, "tidy.clean_up", params={"seconds": 60}), "ready")
    before = meter.oom_kills()
    text = counter.read_text()
    counter.write_text(text.replace(f"oom_kill {before}\n", f"oom_kill {before + counted}\n"))
    assert meter.oom_kills() == before + counted
    # The kernel takes the process that `oom_score_adj` makes the first to go: the handler.
    scores = {pid: Path(f"/proc/{pid}/oom_score_adj").read_text().strip() for pid in guarded.tree()}
    assert scores[guarded.pid] != "500"
    handler = [pid for pid, score in scores.items() if score == "500"][-1]
    os.kill(handler, signal.SIGKILL)
    assert guarded.wait() == 0, guarded.said()
    bench.nothing_is_left(guarded)
    task, run = guarded.task, guarded.run
    assert (run.status, run.signal) == ("failed", "SIGKILL")
    assert run.error is not None
    assert run.error["code"] == code
    assert task.status == ("retry_wait" if counted else "failed")


def test_the_kernels_own_counter_of_such_kills_is_read() -> None:
    lines = Path("/proc/vmstat").read_text().splitlines()
    (told,) = [int(line.split()[1]) for line in lines if line.startswith("oom_kill ")]
    assert meter.oom_kills() >= told


def test_a_fork_bomb_is_counted_and_named(level: Level, bench: Bench) -> None:
    guarded = bench.python(level, BOMB, limits={"processes": 20})
    assert ended(bench, guarded)["code"] == "process_limit"


def test_as_many_processes_as_allowed_are_allowed(level: Level, bench: Bench) -> None:
    guarded = bench.python(level, FAMILY, limits={"processes": 10})
    assert guarded.wait() == 0
    assert guarded.task.status == "completed", guarded.run.error


def test_a_file_beyond_its_limit_is_named(level: Level, bench: Bench) -> None:
    guarded = bench.start(level, "tidy.die", params={"how": "file"}, limits={"file_mb": 4})
    assert ended(bench, guarded)["code"] == "file_size_limit"


@pytest.mark.parametrize("script", ["exec head -c 9m /dev/zero > f", "head -c 9m /dev/zero > f; exit"])
def test_a_program_that_hits_the_file_limit_is_named_also_below_a_shell(
    bench: Bench, script: str
) -> None:
    guarded = bench.shell(Level.PROCESS, script, limits={"file_mb": 4})
    assert ended(bench, guarded)["code"] == "file_size_limit"


@pytest.mark.parametrize("allowed", [None, 32, 200])
def test_no_more_files_are_open_at_once_than_allowed(
    level: Level, bench: Bench, allowed: int | None
) -> None:
    limits = {"open_files": allowed} if allowed else {}
    guarded = bench.start(level, "tidy.die", params={"how": "descriptors"}, limits=limits, max_retries=0)
    error = ended(bench, guarded)
    assert (error["code"], error["type"]) == ("handler_error", "OSError")
    assert guarded.texts("stdout") == [f"errno {errno.EMFILE} at {allowed or 1024}"]


@pytest.mark.parametrize("name", LIMITS)
def test_every_limit_that_a_type_may_declare_is_read(name: str) -> None:
    asked = {name: 77}
    read = (effective_limits(asked, None), output_cap(asked))
    assert read != (effective_limits({}, None), output_cap({}))


def test_a_workspace_beyond_its_limit_is_named(level: Level, bench: Bench) -> None:
    script = "for n in 1 2 3 4; do head -c 3m /dev/zero > f$n; done; sleep 60"
    guarded = bench.shell(level, script, limits={"workspace_mb": 8})
    assert ended(bench, guarded)["code"] == "disk_full"


@pytest.mark.parametrize(
    "script",
    [
        "exec 9>f; rm f; head -c 12m /dev/zero >&9; sleep 60",
        "mkdir d; head -c 12m /dev/zero > d/f; chmod 0 d; sleep 60",
        "mkdir d; cd d; seq 3000 | xargs touch; sleep 60",
    ],
    ids=["removed", "closed", "empty"],
)
def test_a_workspace_beyond_its_limit_is_seen_however_it_is_hidden(
    level: Level, bench: Bench, script: str
) -> None:
    guarded = bench.shell(level, script, limits={"workspace_mb": 8})
    assert ended(bench, guarded)["code"] == "disk_full"


def test_output_beyond_its_cap_is_marked_and_the_run_goes_on(level: Level, bench: Bench) -> None:
    script = "head -c 2m /dev/zero | tr '\\0' x; echo '::result {\"still\": \"here\"}'"
    guarded = bench.shell(level, script, limits={"output_mb": 1})
    assert guarded.wait() == 0, guarded.said()
    run = guarded.run
    assert (guarded.task.status, run.log_truncated) == ("completed", True)
    assert any("Output cut" in text for text in guarded.texts("system"))
    assert 0 < run.log_bytes <= 1.1 * MIB


@pytest.fixture
def small_disk(bench: Bench) -> Iterator[None]:
    """Workspaces on a file system of 16 MiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m,mode=0711", "tmpfs", str(bench.workspaces)],
        capture_output=True,
        text=True,
    )
    if made.returncode:
        pytest.skip(f"mounting a small file system is refused here: {made.stderr.strip()}")
    yield
    subprocess.run(["umount", "-l", str(bench.workspaces)], check=True)


@pytest.mark.parametrize("kind", ["handler", "command"])
@pytest.mark.usefixtures("small_disk")
def test_a_full_disk_is_named_and_free_again_afterwards(level: Level, bench: Bench, kind: str) -> None:
    if kind == "handler":
        guarded = bench.start(level, "tidy.die", params={"how": "file"}, max_retries=0)
    else:
        guarded = bench.shell(level, "head -c 64m /dev/zero > large")
    assert ended(bench, guarded)["code"] == "disk_full"
    after = bench.shell(level, "head -c 8m /dev/zero > large")
    assert after.wait() == 0
    assert after.task.status == "completed"


@pytest.mark.usefixtures("small_disk")
def test_a_run_that_finds_the_disk_full_says_so_and_comes_again(bench: Bench) -> None:
    hog = os.open(bench.workspaces / "hog", os.O_WRONLY | os.O_CREAT)
    os.posix_fallocate(hog, 0, os.statvfs(bench.workspaces).f_bavail * 4096)
    os.close(hog)
    guarded = bench.start(type="tidy.die", params={"how": "file"}, max_retries=2)
    assert guarded.wait() == 0, guarded.said()
    assert (guarded.run.error or {})["code"] == "disk_full"
    assert guarded.task.status in ("retry_wait", "queued")
    assert [each.name for each in bench.workspaces.iterdir()] == ["hog"]
