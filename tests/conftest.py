"""What every test may use. Servers come from :mod:`tests.services`, whole platforms from tests/e2e."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

Eventually = Callable[..., None]

SLOW_LAST = ("ops", "live", "security", "e2e", "chaos", "browser")
"""Folders whose tests start servers or whole platforms, in the order in which they come last.

The browser's come at the very end: Playwright leaves an event loop running in the main thread, and
Django refuses its database there from then on."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the fast tests first: whoever breaks something hears of it within a minute."""

    def rank(item: pytest.Item) -> int:
        folder = item.path.relative_to(Path(__file__).parent).parts[0]
        return SLOW_LAST.index(folder) + 1 if folder in SLOW_LAST else 0

    items.sort(key=rank)


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
