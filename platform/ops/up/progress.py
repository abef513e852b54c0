"""What is seen while `up` works: one line per step with the seconds since the command.

A person reads sentences; a program (``--json``) gets an object a line: ``{"kind", "seconds", …}``, of
kind ``step``, ``stopped`` or ``error`` with the sentence as ``text``, or ``ready`` with where to log in.
"""

from __future__ import annotations

import json
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
    """Prints lines to the terminal and keeps the sentences in ``logs/up.log``.

    A terminal that has gone away (a closed pipe) never stops the platform.
    """

    def __init__(self, terminal: IO[str] | None = None, *, as_json: bool = False) -> None:
        self.terminal: IO[str] | None = terminal or sys.stdout
        self.as_json = as_json
        self.log: Path | None = None
        self.began = began()

    def step(self, sentence: str) -> None:
        """Tell one step."""
        self._tell(self._timed(sentence), kind="step", text=sentence)

    def stopped(self, sentence: str = "stopped") -> None:
        """Tell that nothing runs any more: the last line of who was asked to stop."""
        self._tell(self._timed(sentence), kind="stopped", text=sentence)

    def failed(self, sentence: str) -> None:
        """Tell why it cannot be done: the last line."""
        self._tell(f"switchyard: {sentence}", kind="error", text=sentence)

    def line(self, text: str) -> None:
        """Print a line for a person as it is; programs are not told it."""
        self._tell(text)

    def ready(self, **access: str | None) -> None:
        """The platform is ready; whoever waited for that may go. A program is told its ``access``."""
        if self.as_json:
            self.show(self._object(kind="ready", **access))

    def show(self, line: str) -> None:
        """Print what has its form already, and keep it nowhere."""
        if self.terminal is not None:
            try:
                print(line, file=self.terminal, flush=True)
            except (OSError, ValueError):
                self.terminal = None

    def _tell(self, line: str, **facts: str) -> None:
        if not self.as_json:
            self.show(line)
        elif facts:
            self.show(self._object(**facts))
        if self.log is not None:
            with suppress(OSError), self.log.open("a") as log:
                log.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} {line}\n")

    def _timed(self, sentence: str) -> str:
        return f"[{time.time() - self.began:6.1f} s] {sentence}"

    def _object(self, kind: str, **facts: str | None) -> str:
        return json.dumps({"kind": kind, "seconds": round(time.time() - self.began, 1), **facts})


def began() -> float:
    """Return when the command began, in seconds since the epoch."""
    now = time.time()
    with suppress(ValueError):
        told = float(os.environ.get(SINCE, ""))
        if 0 <= now - told < 3600:
            return told
    return now
