"""The callers of ``tests.tenants.callers`` in a world where some task types can be run."""

from __future__ import annotations

import pytest

from tests.tasks.api.work import publish_types, start_platform
from tests.tenants.callers import (
    World,
    lasting_world,
    the_trail_may_be_emptied_between_tests,
    world,
)

__all__ = ["acme", "lasting_world", "the_trail_may_be_emptied_between_tests", "world"]


@pytest.fixture
def acme(world: World) -> World:
    """The world with task types, a dispatcher and workers."""
    publish_types()
    start_platform()
    return world
