"""Rules and off-peak windows on a real platform, set by the command as operators do."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.conftest import Eventually
from tests.e2e.command import COMMAND, environment
from tests.e2e.platforms import Platform
from tests.e2e.work import Json, Work

__all__ = ["environment"]

Operate = Callable[..., str]


@pytest.fixture
def operate(platform: Platform, environment: dict[str, str], tmp_path: Path) -> Iterator[Operate]:
    """Run the command as an operator; it must succeed. Rules and windows are taken away afterwards."""
    variables = {**environment, "SWITCHYARD_TOKEN": str(platform.credentials["operator_token"])}

    def run(*argv: str) -> str:
        done = subprocess.run(
            [COMMAND, *argv],
            env={**os.environ, **variables},
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    yield run
    for rule in json.loads(run("routes", "list", "--json")):
        run("routes", "delete", rule["name"])
    for windows in json.loads(run("windows", "list", "--json")):
        run("windows", "clear", windows["subject"], windows["name"])


def first_event(work: Work, task: Json) -> Json:
    found: Json = work.events(task)[0]["data"]
    return found


def test_a_rule_moves_what_it_matches_from_the_next_submit_on(work: Work, operate: Operate) -> None:
    before = work.submit(params={}, labels={"suite": "nightly-7"})
    operate("routes", "set", "nightly", "batch", "--label", "suite=nightly*", "--type", "test.*")
    assert "nightly" in operate("routes", "list")
    moved = work.submit(params={}, labels={"suite": "nightly-7"}, queue="critical")
    other = work.submit(params={}, labels={"suite": "quick"}, queue="critical")
    assert [work.end_of(task)["queue"] for task in (before, moved, other)] == [
        *("normal", "batch", "critical"),
    ]
    assert first_event(work, moved)["routed"] == {"rule": "nightly", "asked": "critical"}
    assert "routed" not in first_event(work, before)
    operate("routes", "delete", "nightly")
    assert work.submit(params={}, labels={"suite": "nightly-7"})["queue"] == "normal"


def test_batch_work_waits_for_its_window_and_starts_when_it_opens(
    work: Work, platform: Platform, operate: Operate, eventually: Eventually
) -> None:
    # A window has whole minutes: the next one, or that after it where it is too near.
    opens = (datetime.now(UTC) + timedelta(seconds=70)).replace(second=0, microsecond=0)
    span = f"{opens:%H:%M}-{opens + timedelta(minutes=10):%H:%M}"
    operate("windows", "set", "type", "test.dummy", span)
    operate("windows", "set", "tenant", platform.tenant, "--zone", "Etc/GMT", span)
    held = work.submit(params={}, queue="batch")
    free = work.submit(params={})
    assert work.end_of(free)["status"] == "completed"
    now = work.task(held)
    assert (now["status"], now["waiting_for"]["reason"]) == ("queued", "off_peak")
    assert f"{opens:%Y-%m-%dT%H:%M:%SZ}" in now["waiting_for"]["detail"]
    told = work.post("tasks", type="test.dummy", queue="batch", dry_run=True)
    assert told["waiting_for"]["reason"] == "off_peak"
    assert datetime.fromisoformat(told["estimated_start"]) >= opens

    def counted() -> bool:
        queues = {row["name"]: row for row in json.loads(operate("queues", "--json"))}
        return bool(queues["batch"]["off_peak"] == 1)

    # The dispatcher writes once a second down what it holds.
    eventually(counted, seconds=10)
    assert {row["open"] for row in json.loads(operate("windows", "list", "--json"))} == {False}
    done = work.end_of(held, seconds=120)
    started = datetime.fromisoformat(done["started_at"])
    assert opens <= started < opens + timedelta(seconds=10)
