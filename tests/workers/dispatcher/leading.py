"""A dispatcher that leads and goes round when a test tells it to; a broker that only listens."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.db.models.functions import Now

from tasks.models import Leader
from tenants.models import Tenant
from tests.tasks.api.work import publish_types, start_platform
from tests.workers.dispatcher.test_rounds import Heard
from workers.dispatcher.loop import CHORES, Dispatcher
from workers.dispatcher.pace import Pace


class Counting(Heard):
    """A broker in which no message waits."""

    def depth(self, _queue: str) -> int:
        return 0

    def forget(self, _tasks: set[str]) -> None:
        pass


@pytest.fixture
def tenant(transactional_db: None) -> Tenant:
    """A tenant whose dispatcher has gone and whose workers are silent."""
    publish_types()
    start_platform()
    Leader.objects.update(renewed_at=Now() - timedelta(minutes=1))
    return Tenant.objects.create(slug="acme", name="Acme")


@pytest.fixture
def dispatcher(tenant: Tenant) -> Iterator[Dispatcher]:
    """A dispatcher that leads."""
    dispatcher = Dispatcher()
    dispatcher._publisher = Counting()  # type: ignore[assignment]
    assert dispatcher._take_lead()
    yield dispatcher
    dispatcher._resign()


def go_round(dispatcher: Dispatcher) -> None:
    """Let it do all that is ever due in a round, however short ago it was done."""
    dispatcher._pace = Pace(CHORES)
    dispatcher._round(set())
