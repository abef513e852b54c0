"""A handler that dies, talks nonsense or never stops talking fails; its supervisor does not."""

from __future__ import annotations

import importlib
import re
import time
from pathlib import Path

import pytest

from tests.conftest import Eventually
from tests.workers.supervisor.conftest import Bench
from workers.sandbox import Level
from workers.supervisor.lease import EXIT_CODE
from workers.supervisor.storing import PENDING_CAP

MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("how", "signal", "code"), [("segfault", "SIGSEGV", 139), ("kill", "SIGKILL", 137)]
)
def test_a_handler_that_dies_of_a_signal_has_failed_and_is_not_lost(
    level: Level, bench: Bench, how: str, signal: str, code: int
) -> None:
    guarded = bench.start(level, "tidy.die", params={"how": how})
    assert guarded.wait() == 0, guarded.said()
    task, run = guarded.task, guarded.run
    assert (task.status, task.status_reason, task.losses) == ("failed", "signal", 0)
    assert (run.status, run.signal, run.exit_code) == ("failed", signal, code)
    assert signal in (run.error or {})["message"]
    bench.nothing_is_left(guarded)


def test_a_death_by_a_signal_is_tried_again_where_the_task_names_it(bench: Bench) -> None:
    guarded = bench.start(type="tidy.die", params={"how": "kill"}, retry={"retry_on": ["signal"]})
    assert guarded.wait() == 0, guarded.said()
    assert (guarded.task.status, guarded.task.failures) == ("retry_wait", 1)


def test_a_handler_that_leaves_without_a_word_tells_its_exit_code(bench: Bench) -> None:
    guarded = bench.start(type="tidy.die", params={"how": "exit"}, max_retries=0)
    assert guarded.wait() == 0, guarded.said()
    assert (guarded.run.error or {})["code"] == "exit_code"
    assert guarded.run.exit_code == 3


@pytest.mark.parametrize(
    "garbage",
    [
        "no json\n",
        "[]\n",
        '{"op": "unknown"}\n',
        '{"op": "progress", "percent": 1e400}\n',
        '{"op": "result", "data": 7}\n',
        "x" * (2 * MIB),
    ],
)
def test_what_is_no_message_ends_the_run(bench: Bench, garbage: str) -> None:
    guarded = bench.start(type="tidy.garbage", params={"bytes": garbage})
    assert guarded.wait() == 0, guarded.said()
    assert (guarded.task.status, guarded.task.status_reason) == ("failed", "protocol")
    bench.nothing_is_left(guarded)


def test_a_command_that_masks_without_end_is_ended(bench: Bench) -> None:
    guarded = bench.python(
        Level.PROCESS, "import itertools\nfor n in itertools.count(): print('::mask', f'{n:060000}')"
    )
    assert guarded.wait() == 0, guarded.said()
    assert (guarded.task.status, guarded.task.status_reason) == ("failed", "protocol")
    bench.nothing_is_left(guarded)


def test_half_a_message_at_the_end_is_none(bench: Bench) -> None:
    params = {"bytes": '{"op": "progress", "per', "leave": True}
    guarded = bench.start(type="tidy.garbage", params=params)
    assert guarded.wait() == 0, guarded.said()
    assert guarded.task.status_reason == "protocol"


def test_a_gigabyte_without_a_line_end_is_cut_and_costs_the_supervisor_no_memory(bench: Bench) -> None:
    script = "sleep 0.3; head -c 1G /dev/zero; exit 4"
    guarded = bench.until_it_runs(bench.shell(Level.PROCESS, script, limits={"output_mb": 2}))
    before = _peak(guarded.pid)
    peak = before
    while not guarded.ended():
        peak = max(peak, _peak(guarded.pid))
        time.sleep(0.02)
    assert guarded.run.exit_code == 4
    assert guarded.run.log_truncated
    assert sum(len(text) for text in guarded.texts("stdout")) <= 2 * MIB
    assert peak - before < 48 * MIB


@pytest.mark.parametrize("where", ["store_artifacts", "finish"])
def test_an_error_of_the_supervisors_own_gives_the_run_up_and_leaves_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def broken(*_args: object, **_words: object) -> None:
        raise ValueError("nobody has thought of this")

    monkeypatch.setattr(importlib.import_module("workers.supervisor.guard"), where, broken)
    guarded = bench.start()
    assert guarded.wait() == EXIT_CODE, guarded.said()
    assert guarded.run.status == "running"  # the pool manager, told by the code, gives it up at once
    assert list(bench.workspaces.iterdir()) == []


def test_output_that_waits_for_the_database_outlives_its_handler(
    bench: Bench, eventually: Eventually
) -> None:
    go = bench.folder / "go"
    size = PENDING_CAP + 40_000
    guarded = bench.python(
        Level.PROCESS,
        f"import os, time\nprint('ready', flush=True)\nwhile not os.path.exists({str(go)!r}):"
        f" time.sleep(0.01)\nprint('x' * 99 + '\\n', end='')\nprint(('y' * 99 + '\\n') * {size // 100})",
    )
    bench.until_it_runs(guarded, "ready")
    with bench.database_away():
        go.touch()
        eventually(lambda: guarded.tree() == [guarded.pid])
    assert guarded.wait() == 0, guarded.said()
    assert guarded.run.status == "completed"
    assert sum(text == "y" * 99 for text in guarded.texts()) == size // 100


def _peak(pid: int) -> int:
    """The most resident bytes a process ever had; 0 when it is gone."""
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0
