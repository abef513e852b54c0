"""Ctrl-C while a task is followed: asked for between events, never in the middle of a line."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupts:
    """Turns SIGINT into KeyboardInterrupt, but holds it back while something is being shown.

    ::

        with Interrupts() as interrupts:
            for event in events:          # a Ctrl-C while waiting is raised here
                with interrupts.held():   # one that comes here is raised when the block is done
                    show(event)
    """

    def __init__(self) -> None:
        self._holding = False
        self._pending = False
        self._before: signal.Handlers | object | None = None

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)  # type: ignore[arg-type]

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold interrupts back until the block is done."""
        self._holding = True
        try:
            yield
        finally:
            self._holding = False
        if self._pending:
            self._pending = False
            raise KeyboardInterrupt

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._holding:
            self._pending = True
        else:
            raise KeyboardInterrupt
