"""Replace worker processes one after another, so that a pool never has fewer slots than it should.

The successor is up before the old worker is told to stop; the old one takes nothing new from then on,
finishes what it runs within the drain, and is not started again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from ops.pools.workers import WorkerPlan
from ops.supervision.programs import Watched
from ops.supervision.watch import Watch

logger = logging.getLogger(__name__)

SUCCESSOR_SECONDS = 60.0
"""A successor that is not up by then does not hold the old worker's stop up any longer."""


class Rolling:
    """The replacements of one manager. ``plans`` is the manager's own: name to plan, changed here.

    ``start`` starts a worker process; ``is_up`` tells whether one takes tasks.
    """

    def __init__(
        self,
        plans: dict[str, WorkerPlan],
        start: Callable[[WorkerPlan], Watched],
        is_up: Callable[[WorkerPlan, Watched], bool],
    ) -> None:
        self._plans = plans
        self._start = start
        self._is_up = is_up
        self._asked: list[str] = []
        self._successor: tuple[str, str, Watched, float] | None = None

    def ask(self, names: Iterable[str]) -> None:
        """Have these workers replaced, after those that were asked for before."""
        self._asked += [name for name in names if name in self._plans and name not in self._asked]

    @property
    def pair(self) -> tuple[str, str] | None:
        """The worker that is being replaced and its successor, while both are there."""
        return self._successor[:2] if self._successor else None

    def turn(self, watch: Watch) -> None:
        """Take the next step, if it is time for one."""
        for name in [name for name in self._plans if name not in watch.programs]:
            del self._plans[name]
            self._asked = [each for each in self._asked if each != name]
        if self._successor is None:
            waiting = [name for name in self._asked if not watch.programs[name].stopping]
            if not waiting:
                return
            old = waiting[0]
            plan = replace(self._plans[old], generation=self._plans[old].generation + 1)
            self._plans[plan.name] = plan
            until = time.monotonic() + SUCCESSOR_SECONDS
            self._successor = (old, plan.name, self._start(plan), until)
            logger.info("%s is to drain: %s takes its place", old, plan.name)
            return
        old, new, watched, until = self._successor
        if self._is_up(self._plans[new], watched) or time.monotonic() >= until:
            watch.retire(old)
            self._successor = None
