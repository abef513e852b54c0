"""A real dispatcher that goes round when a test tells it to; its messages wait in the broker."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from tasks.models import Inflight, Leader
from tests.tenants.callers import World
from workers.dispatcher.loop import CHORES, Dispatcher
from workers.dispatcher.pace import Pace


@pytest.fixture
def dispatcher(acme: World) -> Iterator[Dispatcher]:
    """A dispatcher that leads."""
    Leader.objects.filter(name="dispatcher").update(renewed_at="2020-01-01T00:00:00Z")
    dispatcher = Dispatcher()
    assert dispatcher._take_lead()
    yield dispatcher
    dispatcher._resign()


def go_round(dispatcher: Dispatcher) -> set[uuid.UUID]:
    """Look at everything, however short ago it was looked at, and dispatch; return what is in flight."""
    dispatcher._pace = Pace(CHORES)
    dispatcher._look({"*"})
    dispatcher._dispatch()
    return set(Inflight.objects.values_list("task_id", flat=True))
