"""What every test may use. :mod:`tests.services` starts servers, tests/e2e whole platforms."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from django.apps import AppConfig
from django.db.models.signals import post_migrate

from tests.e2e.platforms import platform
from tests.e2e.work import work
from tests.stages import ALONE, PLATFORMS

__all__ = ["platform", "work"]

Eventually = Callable[..., None]

SLOW_LAST = (*PLATFORMS, *ALONE)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the fast tests first, and the browser's at the very end, also in one ordinary pytest."""

    def rank(item: pytest.Item) -> int:
        folder = item.path.relative_to(Path(__file__).parent).parts[0]
        return SLOW_LAST.index(folder) + 1 if folder in SLOW_LAST else 0

    items.sort(key=rank)


@pytest.fixture(scope="session", autouse=True)
def _what_migrations_stored_is_there_in_every_test() -> None:
    """A test with real transactions empties all tables; the rows of our migrations come back then."""
    # Flushing sends the signal of migrating, with which Django brings its own rows back.
    post_migrate.connect(_restore, dispatch_uid="rows of migrations")


def _restore(sender: AppConfig, **_signal: object) -> None:
    if sender.label == "tasks":
        Leader = sender.get_model("Leader")
        LimitsRevision = sender.get_model("LimitsRevision")
        Leader.objects.get_or_create(
            name="dispatcher", defaults={"renewed_at": datetime.fromtimestamp(0, UTC)}
        )
        LimitsRevision.objects.get_or_create(defaults={"revision": 1})


@pytest.fixture
def eventually() -> Eventually:
    """Wait until a condition holds; fail with what it last was when the time is up.

    ``eventually(lambda: done(), seconds=5)``: the condition is asked every 20 ms at first, then less
    often. An AssertionError inside it counts as "not yet" and is what the failure shows.
    """

    def wait(condition: Callable[[], object], *, seconds: float = 10.0) -> None:
        deadline = time.monotonic() + seconds
        pause = 0.02
        while True:
            problem: AssertionError | None = None
            try:
                value = condition()
            except AssertionError as error:
                value, problem = False, error
            if value or (value is None and problem is None):
                return
            if time.monotonic() > deadline:
                raise problem or AssertionError(f"not within {seconds} s: {value!r}")
            time.sleep(pause)
            pause = min(pause * 1.5, 0.25)

    return wait
