"""`switchyard drain`: a worker is replaced in mid-run, and nothing is lost by it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.conftest import Eventually
from tests.e2e.platforms import Platform
from tests.e2e.work import Work


def workers(platform: Platform, queue: str) -> list[dict[str, Any]]:
    with platform.operator() as operator:
        rows: list[dict[str, Any]] = operator.get(f"operator/workers?queue={queue}").json()["results"]
    return rows


def drain(platform: Platform, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "SWITCHYARD_URL": platform.url,
        "SWITCHYARD_TOKEN": str(platform.credentials["operator_token"]),
        "SWITCHYARD_TENANT": platform.tenant,
    }
    command = Path(sys.executable).with_name("switchyard")
    return subprocess.run(
        [str(command), "drain", *arguments, "--json"], env=environment, capture_output=True, text=True
    )


def test_a_drained_worker_finishes_what_it_runs_and_another_takes_its_place(
    platform: Platform, work: Work, eventually: Eventually
) -> None:
    eventually(lambda: len(workers(platform, "batch")) == 1, seconds=30)
    (old,) = workers(platform, "batch")
    task = work.submit(params={"seconds": 4}, queue="batch")
    work.until(task, "running")
    done = drain(platform, old["name"])
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["results"][0]["changed"] is True
    assert json.loads(drain(platform, old["id"]).stdout)["results"][0]["changed"] is False

    def both() -> bool:
        found = {row["id"]: row["status"] for row in workers(platform, "batch")}
        return len(found) == 2 and "alive" in found.values()

    eventually(both, seconds=30)
    ended = work.end_of(task)
    assert (ended["status"], ended["attempt"], ended["counts"]["restarts"]) == ("completed", 1, 0)
    eventually(lambda: [row["status"] for row in workers(platform, "batch")] == ["alive"], seconds=30)
    (new,) = workers(platform, "batch")
    assert new["id"] != old["id"]
    assert work.end_of(work.submit(params={}, queue="batch"))["status"] == "completed"
    assert drain(platform, "nobody").returncode == 1
    assert drain(platform).returncode == 2
