"""What a followed task looks like: its lines, and on a terminal one moving line below them.

The moving line (progress, step, time) is on stderr and only where that is a terminal. It is taken
away before anything else is printed and put back afterwards, so that stdout stays what the task
printed, also when both streams are the same terminal.
"""

from __future__ import annotations

import io
import os
import shutil
import sys
import threading
import time
from types import TracebackType
from typing import Self, TextIO

from switchyard.cli.output import in_colour, on_terminal, styled
from switchyard.cli.text import log_line, printable

TICK = 1.0
_ERASE = "\r\x1b[2K"


class Screen:
    """Prints lines and remarks, each at once; keeps the progress line at the bottom of a terminal.

    A context manager: leaving it takes the progress line away.
    """

    def __init__(self, *, progress: bool = True) -> None:
        self._moving = progress and on_terminal(sys.stderr) and _capable()
        self._lock = threading.RLock()
        self._drawn = False
        self._percent = 0.0
        self._step = ""
        self._since: float | None = None
        self._stop = threading.Event()
        self._clock: threading.Thread | None = None

    def __enter__(self) -> Self:
        if self._moving:
            self._clock = threading.Thread(target=self._tick, daemon=True)
            self._clock.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        if self._clock is not None:
            self._clock.join()
        with self._lock:
            self._erase()

    def output(self, text: str, *, error: bool) -> None:
        """Print one line of the task: stdout's to stdout, any other stream's to stderr."""
        stream = sys.stderr if error else sys.stdout
        shown = log_line(text, colour=in_colour(stream)) if on_terminal(stream) else text
        self._print(stream, shown)

    def remark(self, text: str, style: str = "dim") -> None:
        """Print something about the task on stderr; one line, made safe."""
        self._print(sys.stderr, styled(printable(text), style, sys.stderr))

    def progress(self, percent: float, step: str) -> None:
        """Show how far the running task is."""
        with self._lock:
            self._since = self._since or time.monotonic()
            self._percent, self._step = percent, step
            self._draw()

    def waiting(self) -> None:
        """Show no progress: the task does not run (yet, or any more)."""
        with self._lock:
            self._since = None
            self._erase()

    def suspend(self) -> None:
        """Take the progress line away until the next progress (to ask a question)."""
        self.waiting()

    def _print(self, stream: TextIO, text: str) -> None:
        with self._lock:
            self._erase()
            stream.write(f"{text}\n")
            stream.flush()
            self._draw()

    def _tick(self) -> None:
        while not self._stop.wait(TICK):
            with self._lock:
                self._draw()

    def _draw(self) -> None:
        if self._moving and self._since is not None:
            line = _bar(self._percent, self._step, time.monotonic() - self._since)
            sys.stderr.write(f"{_ERASE}{line}")
            sys.stderr.flush()
            self._drawn = True

    def _erase(self) -> None:
        if self._drawn:
            sys.stderr.write(_ERASE)
            sys.stderr.flush()
            self._drawn = False


def _bar(percent: float, step: str, seconds: float) -> str:
    """Return the progress line: bar, percent, time, step; never wider than the terminal."""
    from rich.cells import cell_len, set_cell_size
    from rich.console import Console
    from rich.progress_bar import ProgressBar

    # The last column stays free: writing there makes some terminals wrap.
    columns = max(20, shutil.get_terminal_size().columns) - 1
    minutes, rest = divmod(int(seconds), 60)
    numbers = f" {percent:3.0f}% {minutes}:{rest:02d} "
    width = max(5, min(30, columns // 3))
    drawing = Console(
        file=io.StringIO(),
        force_terminal=True,
        no_color=not in_colour(sys.stderr),
        width=columns,
        legacy_windows=False,
    )
    with drawing.capture() as drawn:
        drawing.print(ProgressBar(total=100, completed=percent, width=width), end="")
    left = columns - width - len(numbers)
    shown = printable(step)
    if cell_len(shown) > left:
        shown = f"{set_cell_size(shown, max(0, left - 1))}…"
    return f"{drawn.get()}{numbers}{shown}"


def _capable() -> bool:
    """Return whether the terminal can erase a line; without TERM nobody knows."""
    return os.environ.get("TERM", "") not in ("", "dumb")
