"""Keeping a claim alive, and killing the handler in time when that does not succeed.

The supervisor's own monotonic clock decides: if the lease was not renewed, the handler's tree is dead
before the reaper may give the task to somebody else. The watch is a thread of its own, because the
main thread may hang in a database that is frozen rather than down.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

import structlog

MARGIN_SHARE = 0.2
"""Of the lease: the tree is killed this much before its end."""

EXIT_CODE = 75
log = structlog.get_logger(__name__)


class LeaseWatch:
    """Calls ``kill`` and ends the process if :meth:`renewed` is not called in time.

    ``seconds`` is the lease; it counts from the moment before the renewal was asked for, because
    the database may have answered long before we heard of it.
    """

    def __init__(self, seconds: float, kill: Callable[[], object]) -> None:
        self._seconds = seconds * (1 - MARGIN_SHARE)
        self._kill = kill
        self._deadline = time.monotonic() + self._seconds
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="lease", daemon=True)
        self._thread.start()

    def renewed(self, asked_at: float) -> None:
        """Note a renewal that was asked for at ``asked_at`` (monotonic)."""
        self._deadline = asked_at + self._seconds

    @property
    def left(self) -> float:
        """Return the seconds until the tree is killed."""
        return self._deadline - time.monotonic()

    def stop(self) -> None:
        """The handler has ended: there is nothing left to kill."""
        self._over.set()

    def _watch(self) -> None:
        while not self._over.wait(max(0.05, min(self.left, 1.0))):
            if self.left <= 0:
                log.error("lease_not_renewed", action="killing the handler")
                self._kill()
                os._exit(EXIT_CODE)
