"""Keeping a claim alive, and killing the handler in time when that does not succeed.

The supervisor's own monotonic clock decides: if the lease was not renewed, the handler's tree is dead
before the reaper may give the task to somebody else. The watch is a thread of its own, because the
main thread may hang in a database that is frozen rather than down.
"""

from __future__ import annotations

import _thread
import os
import time
from collections.abc import Callable

import structlog

MARGIN_SHARE = 0.2
"""Of the lease: the tree is killed this much before its end."""

SHORTEST_LOOK_SECONDS = 0.02
LAST_WORDS_SECONDS = 5.0
"""After the kill the main thread may still write down that it came too late; then the process ends."""

EXIT_CODE = 75
"""Of a supervisor that gives its run up: the pool manager tells the database at once."""

log = structlog.get_logger(__name__)


class LeaseLost(Exception):
    """The lease was not renewed in time: the handler's tree is dead, and there is nothing to write."""


class LeaseWatch:
    """Kills what it was told to kill, and ends the process, if :meth:`renewed` is not called in time.

    ``seconds`` is the lease; it counts from ``since``, the moment (monotonic) before the claim or the
    renewal was asked for, because the database may have answered long before we heard of it.
    """

    def __init__(self, seconds: float, *, since: float) -> None:
        self._seconds = seconds * (1 - MARGIN_SHARE)
        self.renewed_at = since
        self._kill: Callable[[], object] | None = None
        # Held until the run is over. A bare lock and thread: those of `threading` cost a small run more.
        self._lasts = _thread.allocate_lock()
        self._lasts.acquire()
        self.lost = False
        _thread.start_new_thread(self._watch, ())

    def guard(self, kill: Callable[[], object] | None) -> None:
        """Say how to kill what runs under this lease now; None when nothing does.

        While nothing runs, a lease that ends hurts nobody: an end may still be written, however late,
        and is refused if somebody else has the task by then.

        Raises:
            LeaseLost: something was started although the lease is over.
        """
        self._kill = kill
        if kill is not None and self._left() <= 0:
            raise LeaseLost

    def renewed(self, asked_at: float) -> None:
        """Note a renewal that was asked for at ``asked_at`` (monotonic)."""
        self.renewed_at = asked_at

    def check(self) -> None:
        """Raise LeaseLost once the lease could not be kept."""
        if self.lost:
            raise LeaseLost

    def stop(self) -> None:
        """The run is over."""
        if self._lasts.locked():
            self._lasts.release()

    def _watch(self) -> None:
        while not self._lasts.acquire(timeout=max(SHORTEST_LOOK_SECONDS, min(self._left(), 1.0))):
            if self._left() > 0 or self._kill is None:
                continue
            self.lost = True
            log.error("lease_not_renewed", action="killing the handler")
            try:
                self._kill()
            finally:  # it may fail where the main thread has just found the handler's end
                time.sleep(LAST_WORDS_SECONDS)
                os._exit(EXIT_CODE)

    def _left(self) -> float:
        return self.renewed_at + self._seconds - time.monotonic()
