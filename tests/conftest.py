"""What every test may use. Servers come from :mod:`tests.services`, whole platforms from tests/e2e."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

Eventually = Callable[..., None]


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
