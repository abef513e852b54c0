"""A platform below level `full`, whose workers have their handlers forked by servers."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Eventually
from tests.e2e.platforms import Platform, command_line, temporary_platform
from tests.e2e.work import Work
from tests.processes import lives
from workers.sandbox.tree import of_run

SERVER = "inside.server"


@pytest.fixture(scope="module")
def platform() -> Iterator[Platform]:
    with temporary_platform(
        "served", SWITCHYARD_ISOLATION="process", SWITCHYARD_POOLS="critical=1,normal=2,batch=1"
    ) as running:
        yield running


def servers(platform: Platform) -> list[int]:
    """Return the handler servers and the keepers that they have forked."""
    return [pid for pid in platform.processes() if SERVER in command_line(pid)]


def test_runs_end_as_ever_and_no_keeper_stays(
    platform: Platform, work: Work, eventually: Eventually
) -> None:
    done = work.end_of(work.submit(params={"steps": 3, "stdout": "hello", "result": {"n": 1}}))
    assert (done["status"], done["result"], done["runs"][0]["resources"]["cpu_seconds"] > 0) == (
        "completed",
        {"n": 1},
        True,
    )
    failed = work.end_of(work.shell("sh", "-c", "exit 3"))
    assert (failed["status"], failed["runs"][0]["exit_code"]) == ("failed", 3)
    late = work.end_of(work.submit(params={"seconds": 60}, time_limit=1, max_retries=0))
    assert late["error"]["code"] == "timed_out"
    cancelled = work.submit(params={"seconds": 60, "ignore_sigterm": True, "ignore_cancel": True})
    work.until(cancelled, "running")
    work.post(f"tasks/{cancelled['id']}/cancel")
    assert work.end_of(cancelled)["status"] == "cancelled"
    # One server in each of the three workers.
    eventually(lambda: len(servers(platform)) == 3, seconds=10)


def test_a_killed_supervisor_leaves_nothing_of_its_run_and_another_completes_it(
    platform: Platform, work: Work, eventually: Eventually
) -> None:
    task = work.submit(params={"seconds": 3, "spawn_daemon": True}, idempotent=True)
    work.until(task, "running")
    before: set[int] = set()

    def has_begun() -> bool:
        before.update(pid for pid in servers(platform))
        return len(before) >= 5

    eventually(has_begun, seconds=20)
    keepers = {pid for pid in before if parent(pid) in before}
    os.kill(work.supervisor_of(task), signal.SIGKILL)
    eventually(lambda: not any(map(lives, keepers)), seconds=2)
    done = work.end_of(task)
    assert [run["status"] for run in done["runs"]] == ["lost", "completed"]


def test_a_killed_server_loses_its_runs_and_fails_none(work: Work, eventually: Eventually) -> None:
    params = {"seconds": 5, "tell_time": True}
    tasks = [work.submit(params=params, idempotent=each) for each in (True, False)]
    for task in tasks:
        eventually(lambda task=task: work.texts(task, run=1), seconds=20)
    said = [work.texts(task, run=1) for task in tasks]
    keepers = {pid for task in tasks for pid in of_run(task["id"])}
    (server,) = {parent(pid) for pid in keepers} - keepers
    os.kill(server, signal.SIGKILL)
    again, once = map(work.end_of, tasks)
    assert [run["status"] for run in again["runs"]] == ["lost", "completed"]
    assert (once["status"], once["status_reason"]) == ("failed", "lost")
    assert (again["counts"]["losses"], again["counts"]["failures"]) == (1, 0)
    assert [work.texts(task, run=1) for task in tasks] == said
    for task in tasks:
        work.check_history(task)
    assert not any(map(lives, keepers))


def test_without_its_server_a_worker_goes_on_and_starts_it_again(
    platform: Platform, work: Work, eventually: Eventually
) -> None:
    eventually(lambda: len(servers(platform)) == 3, seconds=10)
    old = servers(platform)
    for pid in old:
        os.kill(pid, signal.SIGKILL)
    for queue in ("critical", "normal", "batch"):
        assert work.end_of(work.submit(params={}, queue=queue))["status"] == "completed"
    eventually(lambda: len(set(servers(platform)) - set(old)) == 3, seconds=20)


def parent(pid: int) -> int:
    text = Path(f"/proc/{pid}/stat").read_text()
    return int(text.rpartition(")")[2].split()[1])
