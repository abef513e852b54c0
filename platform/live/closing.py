"""Whether this process has been asked to stop, so that streams can end instead of being cut.

The web server closes sockets by itself (1012), but waits for answers that are still being sent, and
an event stream would be sent for ever. Its own signal handler stays in charge: ours only looks on.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from types import FrameType

from live.hub import Hub, hub

_closing = False
_watching = False


def closing() -> bool:
    """Tell whether the process is about to end."""
    return _closing


def watch_for_the_end() -> None:
    """Notice SIGTERM and SIGINT from now on; called by each stream, does its work once."""
    global _watching
    if _watching or threading.current_thread() is not threading.main_thread():
        return
    _watching = True
    for number in (signal.SIGTERM, signal.SIGINT):
        _look_on(number, asyncio.get_running_loop(), hub())


def _look_on(number: signal.Signals, loop: asyncio.AbstractEventLoop, bells: Hub) -> None:
    served = signal.getsignal(number)
    if not callable(served) or served is signal.default_int_handler:
        return  # no server that stops gracefully, so none that waits for us either

    def handle(signum: int, frame: FrameType | None) -> None:
        global _closing
        _closing = True
        loop.call_soon_threadsafe(bells.ring_all)
        served(signum, frame)

    signal.signal(number, handle)
