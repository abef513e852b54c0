"""What every test may use. :mod:`tests.services` starts servers, tests/e2e whole platforms."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.platforms import platform
from tests.e2e.work import work
from tests.emptying import _tables_are_emptied_by_us
from tests.stages import ALONE, PLATFORMS

__all__ = ["_tables_are_emptied_by_us", "platform", "work"]

Eventually = Callable[..., None]

SLOW_LAST = (*PLATFORMS, *ALONE)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the fast tests first, and the browser's at the very end, also in one ordinary pytest."""

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
