"""Which off-peak windows are closed now, and when the next one opens or closes. Plain rules, no Django.

Lanes and types that share windows share one entry here, so ten thousand tenants with the same hours cost
one look at the calendar per change. The time is the database's; how long until the next change is
measured by our own steady clock, and the database is asked again then (or a little later, should its
clock have been set).
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Iterable
from datetime import datetime

from tenants.windows import Windows

ASK_AGAIN_SECONDS = 30.0
"""So late, at most, is it noticed that the database's clock was set forward."""


class Calendar:
    """The windows in use. :meth:`use` names them, :meth:`turn` tells which opened or closed."""

    def __init__(self) -> None:
        self._in_use: dict[Windows, int] = {}
        self._closed: dict[Windows, str] = {}
        self._changes: list[tuple[datetime, int, Windows]] = []
        self._numbers = itertools.count()
        self._look_at = math.inf

    def use(self, in_use: Iterable[Windows], now: datetime, steady: float) -> None:
        """Replace what is in use; ``now`` is the database's time, ``steady`` ours in seconds.

        Only what is new costs anything: limits change often, and windows seldom.
        """
        wanted = set(in_use)
        gone = self._in_use.keys() - wanted
        if gone:
            for windows in gone:
                del self._in_use[windows]
                self._closed.pop(windows, None)
            self._changes = [change for change in self._changes if change[2] not in gone]
            heapq.heapify(self._changes)
        for windows in wanted - self._in_use.keys():
            self._in_use[windows] = next(self._numbers)
            self._note(windows, now)
        self._plan(now, steady)

    def turn(self, now: datetime, steady: float) -> set[Windows]:
        """Take the time as it is now and return the windows that have opened or closed."""
        turned = set()
        while self._changes and self._changes[0][0] <= now:
            _, _, windows = heapq.heappop(self._changes)
            before = windows in self._closed
            self._note(windows, now)
            if before != (windows in self._closed):
                turned.add(windows)
        self._plan(now, steady)
        return turned

    def wait(self, steady: float) -> float:
        """Return in how many seconds to :meth:`turn` next: 0 is now, infinite is never."""
        return max(0.0, self._look_at - steady)

    def closed(self, windows: Windows) -> str:
        """Return until when windows are closed, for people; "" while they are open."""
        return self._closed.get(windows, "")

    def _note(self, windows: Windows, now: datetime) -> None:
        change = windows.next_change(now)
        if windows.is_open(now):
            self._closed.pop(windows, None)
        else:
            self._closed[windows] = windows.told(change)
        if change is not None:
            heapq.heappush(self._changes, (change, self._in_use[windows], windows))

    def _plan(self, now: datetime, steady: float) -> None:
        if not self._changes:
            self._look_at = math.inf
            return
        left = (self._changes[0][0] - now).total_seconds()
        self._look_at = steady + min(ASK_AGAIN_SECONDS, max(0.0, left))
