"""The operators' self-test against a platform that works, and against one that does not."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from tests.conftest import Eventually
from tests.e2e.command import COMMAND
from tests.e2e.platforms import POOLS, Platform

STEPS = ["isolation", "run", "cancel", "lost message", "killed supervisor", "promises"]


def selftest(platform: Platform, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, "selftest", "--state", str(platform.state), "--patience", "60", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=170,
    )


def usage(platform: Platform, tenant: str) -> dict[str, Any]:
    with platform.operator() as operator:
        found: dict[str, Any] = operator.get(f"tenants/{tenant}/usage").json()
        return found


def test_a_healthy_platform_passes_and_nothing_of_the_test_is_left(
    platform: Platform, eventually: Eventually
) -> None:
    with platform.operator() as operator:
        workers = "operator/workers"
        eventually(lambda: len(operator.get(workers).json()["results"]) >= len(POOLS), seconds=60)
    done = selftest(platform, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["passed"] is True
    outcomes = {step["step"]: step["outcome"] for step in report["steps"]}
    assert list(outcomes) == STEPS
    # Whether a message can be caught depends on who is faster; the others must have been done.
    assert {name for name, outcome in outcomes.items() if outcome != "kept"} <= {"lost message"}
    assert (usage(platform, "canary")["running"], usage(platform, "canary")["queued"]) == (0, 0)


def test_a_platform_whose_workers_are_too_slow_is_told_by_the_exit_code(
    platform: Platform, eventually: Eventually
) -> None:
    done = selftest(platform, "--patience", "0.01")
    assert done.returncode == 1
    assert "BROKEN" in done.stdout

    def nothing_is_left() -> bool:
        left = usage(platform, "canary")
        return (left["running"], left["queued"]) == (0, 0)

    # Those that ran are cancelled by force, and it has no patience to see them end.
    eventually(nothing_is_left, seconds=20)


def test_without_an_address_it_says_what_it_needs(platform: Platform) -> None:
    done = subprocess.run(
        [COMMAND, "selftest", "--state", str(platform.state / "nothing")],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin"},
        timeout=60,
    )
    assert done.returncode == 1
    assert "--url" in done.stderr
