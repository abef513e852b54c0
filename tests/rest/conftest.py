"""The callers that these tests use."""

from __future__ import annotations

from tests.tenants.callers import (
    lasting_world,
    the_trail_may_be_emptied_between_tests,
    world,
)

__all__ = ["lasting_world", "the_trail_may_be_emptied_between_tests", "world"]
