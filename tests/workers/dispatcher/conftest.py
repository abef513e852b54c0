"""A tenant with task types, a dispatcher's row and workers."""

from __future__ import annotations

from tests.tasks.api.work import acme, tenant
from tests.tenants.callers import (
    lasting_world,
    the_trail_may_be_emptied_between_tests,
    world,
)

__all__ = ["acme", "lasting_world", "tenant", "the_trail_may_be_emptied_between_tests", "world"]
