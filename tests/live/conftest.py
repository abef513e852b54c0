"""One web process for all live tests, and a committed world to talk about."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.live.scene import Web, token_of, web_process
from tests.tenants.callers import (
    World,
    lasting_world,
    the_trail_may_be_emptied_between_tests,
)

__all__ = ["lasting_world", "the_trail_may_be_emptied_between_tests"]


@pytest.fixture(scope="session")
def web(
    django_db_setup: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Web]:
    """The web process that most tests share."""
    with web_process(tmp_path_factory.mktemp("web")) as running:
        yield running


@pytest.fixture(scope="session")
def impatient_web(
    django_db_setup: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Web]:
    """A web process with limits that are reached within seconds."""
    limits = {
        "RIGHTS_EVERY": 0.5,
        "STALLED_AFTER": 2.0,
        "HEARTBEAT": 1.0,
        "POLL": 1.0,
        "CONNECTIONS_PER_CREDENTIAL": 3,
        "PAGE": 10,
    }
    with web_process(tmp_path_factory.mktemp("impatient"), limits=limits) as running:
        yield running


@pytest.fixture
def token(lasting_world: World) -> str:
    """A token of acme with every scope."""
    return token_of(lasting_world.acme)[1]
