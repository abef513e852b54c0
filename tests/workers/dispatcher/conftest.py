"""A tenant with task types, a dispatcher's row and workers."""

from __future__ import annotations

from tests.tasks.api.work import tenant
from tests.tenants.callers import the_trail_may_be_emptied_between_tests

__all__ = ["tenant", "the_trail_may_be_emptied_between_tests"]
