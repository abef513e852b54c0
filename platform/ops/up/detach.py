"""``up --detach``: leave the supervisor in a session of its own, return when it is ready."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType

from ops.up.progress import Progress
from ops.up.state import StateError

READY = "\x04ready"


class Relay(Progress):
    """Tells its lines to the process that waits in the foreground, through a pipe."""

    def __init__(self, descriptor: int, *, as_json: bool) -> None:
        super().__init__(os.fdopen(descriptor, "w"), as_json=as_json)

    def ready(self, **access: str | None) -> None:
        """Let the foreground process return; from now on only the log is written."""
        super().ready(**access)
        self.show(READY)
        if self.terminal is not None:
            self.terminal.close()
            self.terminal = None


def detached(serve: Callable[[Progress], int], progress: Progress) -> int:
    """Run ``serve`` in the background; return 0 when it is ready, its exit code when it failed."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        os._exit(_background(serve, Relay(write, as_json=progress.as_json)))
    os.close(write)

    def pass_on(number: int, _frame: FrameType | None) -> None:
        os.kill(child, number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, pass_on)
    with os.fdopen(read) as lines:
        for line in lines:
            if line.rstrip("\n") == READY:
                return 0
            progress.show(line.rstrip("\n"))
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) or 1


def _background(serve: Callable[[Progress], int], relay: Relay) -> int:
    """In the child: leave the terminal for good, then serve."""
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - for good
    try:
        return serve(relay)
    except StateError as error:
        relay.failed(str(error))
        return 1
