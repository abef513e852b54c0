"""The command `switchyard` against the whole platform, as people and CI call it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.e2e.platforms import Platform

COMMAND = str(Path(sys.executable).parent / "switchyard")
LINES_EVERY = 0.1


@pytest.fixture
def environment(platform: Platform, tmp_path: Path) -> dict[str, str]:
    """What the command sees: the platform by environment, as in CI."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "SWITCHYARD_URL": platform.url,
        "SWITCHYARD_TOKEN": str(platform.credentials["token"]),
        "SWITCHYARD_TENANT": platform.tenant,
    }


def printing(count: int) -> str:
    """A shell script that prints the time with each line, so that delays can be measured."""
    return (
        f"i=0; while [ $i -lt {count} ]; do echo $i $(date +%s.%N); "
        f"i=$((i+1)); sleep {LINES_EVERY}; done"
    )
