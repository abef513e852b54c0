"""A short soak with fixed dice; `make soak` is the long one."""

from __future__ import annotations

import pytest

from tests.chaos.soak import soak
from tests.chaos.stage import open_stage

SECONDS = 20.0
SEED = 4711


@pytest.mark.timeout(500)
def test_random_work_under_random_faults_keeps_every_promise() -> None:
    with open_stage() as stage:
        report = soak(stage, seed=SEED, seconds=SECONDS)
    print("\n".join(report.lines()))
    assert report.violations == []
    assert report.tasks > 30
    assert report.faults.total() > 3
