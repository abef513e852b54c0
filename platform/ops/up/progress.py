"""What a person sees while `up` works: one line per step with the seconds since the command."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

# `make up` sets it to the time (seconds since the epoch) at which make began, so that the
# installation counts as well.
SINCE = "SWITCHYARD_UP_SINCE"


class Progress:
    """Prints lines to the terminal and keeps them in ``logs/up.log``.

    A terminal that has gone away (a closed pipe) never stops the platform.
    """

    def __init__(self, terminal: IO[str] | None = None) -> None:
        self.terminal: IO[str] | None = terminal or sys.stdout
        self.log: Path | None = None
        self.began = began()

    def step(self, sentence: str) -> None:
        """Tell one step."""
        self.line(f"[{time.time() - self.began:6.1f} s] {sentence}")

    def line(self, text: str) -> None:
        """Print a line as it is."""
        if self.terminal is not None:
            try:
                print(text, file=self.terminal, flush=True)
            except (OSError, ValueError):
                self.terminal = None
        if self.log is not None:
            with suppress(OSError), self.log.open("a") as log:
                log.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} {text}\n")

    def ready(self) -> None:
        """The platform is ready; whoever waited for that may go."""


def began() -> float:
    """Return when the command began, in seconds since the epoch."""
    now = time.time()
    with suppress(ValueError):
        told = float(os.environ.get(SINCE, ""))
        if 0 <= now - told < 3600:
            return told
    return now
