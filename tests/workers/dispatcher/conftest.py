"""A tenant with task types, a dispatcher's row and workers."""

from __future__ import annotations

import pytest

from tenants.models import Tenant
from tests.tasks.api.work import publish_types, start_platform
from tests.tenants.callers import the_trail_may_be_emptied_between_tests

__all__ = ["tenant", "the_trail_may_be_emptied_between_tests"]


@pytest.fixture
def tenant(db: None) -> Tenant:
    """A tenant whose tasks could run."""
    publish_types()
    start_platform()
    return Tenant.objects.create(slug="acme", name="Acme")
