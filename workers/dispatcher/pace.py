"""When each chore of the dispatcher is due: soon after an event, else now and then, never too often.

A chore that finds what no wake-up told costs more the more there is to look through. So each has a share
of the time that it may take at most: after it has taken 5 ms, one with a share of a tenth rests for
50 ms, whoever asks for it. Plain rules, no Django. Times are seconds of one monotonic clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Chore:
    """``every``: how often it is done without an event; ``share``: of the time, at most."""

    every: float
    share: float = 1.0


class Pace:
    """The chores by name; all are due at first."""

    def __init__(self, chores: Mapping[str, Chore], clock: Callable[[], float] = time.monotonic) -> None:
        self._chores = chores
        self._clock = clock
        self._due_at = dict.fromkeys(chores, 0.0)
        self._rests_until = dict.fromkeys(chores, 0.0)
        self._asked: set[str] = set()

    def ask(self, *names: str) -> None:
        """Have chores done as soon as their shares allow."""
        self._asked.update(names)

    def is_due(self, name: str) -> bool:
        """Return whether it is time for a chore, or nearly: so that several share a round."""
        now = self._clock()
        asked = name in self._asked and now >= self._rests_until[name]
        return asked or now >= self._due_at[name] - self._chores[name].every / 4

    @contextmanager
    def doing(self, name: str) -> Iterator[None]:
        """Do a chore, and set by how long it took when it may be done again."""
        self._asked.discard(name)
        began = self._clock()
        yield
        ended = self._clock()
        rest = ended + (ended - began) * (1.0 / self._chores[name].share - 1.0)
        self._rests_until[name] = rest
        self._due_at[name] = max(rest, began + self._chores[name].every)

    def patience(self) -> float:
        """Return in how many seconds the next chore is due."""
        due = min(self._due_at.values())
        for name in self._asked:
            due = min(due, self._rests_until[name])
        return max(0.0, due - self._clock())
