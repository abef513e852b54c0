"""A machine is gone for good, and the one that takes its place has another name."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress

import pytest

from ops.supervision.processes import descendants
from tests.e2e.platforms import Platform, temporary_platform
from tests.e2e.work import Work

OWN_NAME = ("unshare", "--uts")
SUCCESSOR = "switchyard-successor"


@pytest.fixture(scope="module")
def platform() -> Iterator[Platform]:
    """A platform on a machine whose name is its own business."""
    if os.geteuid() != 0 or subprocess.run([*OWN_NAME, "true"], check=False).returncode:
        pytest.skip("only root may give a machine another name")
    with temporary_platform("host", within=OWN_NAME) as running:
        yield running


def test_what_ran_on_a_vanished_machine_is_found_when_its_successor_has_another_name(
    platform: Platform, work: Work
) -> None:
    task = work.submit(params={"seconds": 1.5}, queue="normal")
    work.until(task, "running")
    rename = ["nsenter", "--uts", "--target", str(platform.supervisor), "hostname", SUCCESSOR]
    subprocess.run(rename, check=True)
    manager = platform.pid("pools")
    for pid in (manager, *descendants(manager)):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    done = work.end_of(task, seconds=60)
    assert (done["status"], done["counts"]["losses"]) == ("completed", 1)
    with platform.operator() as operator:
        runs = operator.get(f"tenants/{platform.tenant}/tasks/{task['id']}").json()["runs"]
    assert [run["status"] for run in runs] == ["lost", "completed"]
    assert runs[0]["machine"] != runs[1]["machine"] == SUCCESSOR
    work.check_history(task)
