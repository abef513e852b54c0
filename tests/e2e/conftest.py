"""The session's platform: started once by a real ``up --detach``, stopped at the end."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.platforms import Platform, start_platform
from tests.e2e.work import Work


@pytest.fixture(scope="session")
def platform() -> Iterator[Platform]:
    """A running platform that all tests of this session share; tests make tenants of their own."""
    folder = Path(tempfile.mkdtemp(prefix="switchyard-e2e-"))
    try:
        running = start_platform(folder / "state")
        yield running
        running.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def work(platform: Platform) -> Work:
    """A client of the shared platform's first tenant."""
    return Work(platform)
