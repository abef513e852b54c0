"""What the chaos tests share: callers on the test database, and one mistreated platform."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.chaos.stage import Stage, open_stage
from tests.e2e.work import Work
from tests.tenants.callers import (
    lasting_world,
    the_trail_may_be_emptied_between_tests,
)

__all__ = ["lasting_world", "the_trail_may_be_emptied_between_tests"]


@pytest.fixture(scope="package")
def common_stage() -> Iterator[Stage]:
    """The stage that the chaos tests of one process share; each leaves it as it found it.

    It ends with them: a platform that nobody uses any more takes a twentieth of a processor.
    """
    with open_stage(SWITCHYARD_WEB_CONNECTIONS="8") as running:
        yield running
        running.check_machine()


@pytest.fixture
def stage(common_stage: Stage) -> Iterator[Stage]:
    """A stage whose every promise is checked after the test."""
    yield common_stage
    common_stage.check()


@pytest.fixture
def staged_work(stage: Stage) -> Work:
    """A client of the stage's tenant."""
    return stage.work
