"""One program of the platform as a process: start it, watch it, end it.

Every program gets a session of its own (Ctrl-C in a terminal reaches only its supervisor), its
output goes to a log file, and on Linux it is told by the kernel when its supervisor dies, so that
even ``kill -9`` of a supervisor leaves nothing running.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

BACKOFF_FIRST = 0.1
BACKOFF_MAX = 5.0
# A program that has lived this long is well again: its next death is answered at once.
BACKOFF_FORGOTTEN_AFTER = 10.0
LOG_ROTATE_BYTES = 10 * 1024 * 1024
LOG_GENERATIONS = 3

_PR_SET_PDEATHSIG = 1
_PRCTL = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


@dataclass(frozen=True, kw_only=True)
class Program:
    """What to run, and the rules of its life.

    ``log`` None leaves the output on the supervisor's own terminal.
    ``enter`` runs in the child just before the exec: it changes namespace, directory and user.
    ``fresh`` gives variables that are made anew for every start.
    ``before`` runs in the supervisor before every start: it clears what a crash left behind.
    ``leave_signal`` asks it to end when it has finished what it does, for which it has all the time.
    ``heartbeat`` is a file that the program touches; unchanged for ``silence`` seconds (after
    ``warm_up`` seconds of life) means that it hangs, and it is killed. All durations in seconds.
    """

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    directory: Path
    log: Path | None
    enter: Callable[[], None] | None = None
    fresh: Callable[[], Mapping[str, str]] | None = None
    before: Callable[[], None] | None = None
    keep_descriptors: tuple[int, ...] = ()
    stop_signal: signal.Signals = signal.SIGTERM
    leave_signal: signal.Signals = signal.SIGTERM
    grace: float = 10.0
    orphan_signal: signal.Signals = signal.SIGKILL
    heartbeat: Path | None = None
    silence: float = 15.0
    warm_up: float = 60.0


@dataclass
class Watched:
    """A program and the process that runs it now."""

    program: Program
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    starts: int = 0
    backoff: float = BACKOFF_FIRST
    due: float | None = None
    last_exit: int | None = None
    fresh: dict[str, str] = field(default_factory=dict)
    stopping: bool = False
    kill_at: float | None = None
    _pulse: tuple[int, float] = field(default=(0, 0.0))

    @property
    def alive(self) -> bool:
        """Whether a process runs (it has not been reaped)."""
        return self.process is not None

    @property
    def pid(self) -> int | None:
        """The process's id, None when nothing runs."""
        return self.process.pid if self.process else None

    def start(self) -> None:
        """Start the program.

        Raises:
            OSError: when it cannot be executed.
        """
        if self.program.before:
            self.program.before()
        self.fresh = dict(self.program.fresh()) if self.program.fresh else {}
        parent = os.getpid()
        with _output(self.program.log) as output:
            # preexec_fn is safe here: what it calls takes no lock that another thread may hold.
            self.process = subprocess.Popen(
                self.program.argv,
                env={**self.program.environment, **self.fresh},
                cwd=None if self.program.enter else self.program.directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                pass_fds=self.program.keep_descriptors,
                preexec_fn=lambda: _prepare(self.program, parent),
            )
        self.started = time.monotonic()
        self.starts += 1
        self.due = None
        self.kill_at = None
        self._pulse = (0, self.started)

    def ended(self, exit_code: int) -> None:
        """Note that the process was reaped, and when to start it again."""
        if self.process:
            self.process.returncode = exit_code
        self.process = None
        self.last_exit = exit_code
        self.kill_at = None
        now = time.monotonic()
        if now - self.started >= BACKOFF_FORGOTTEN_AFTER:
            self.backoff = BACKOFF_FIRST
        self.due = now + self.backoff
        self.backoff = min(self.backoff * 2, BACKOFF_MAX)

    def ask_to_stop(self) -> None:
        """Send the stop signal; after the grace it will be killed (:meth:`overdue`)."""
        self.stopping = True
        if self.process and self.kill_at is None:
            self.kill_at = time.monotonic() + self.program.grace
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, self.program.stop_signal)

    def ask_to_leave(self) -> None:
        """Send the signal to end once it has nothing to do; no grace runs out, but a hang is noticed."""
        self.stopping = True
        if self.process and self.kill_at is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, self.program.leave_signal)

    def kill(self) -> None:
        """Kill the process and all that stayed in its process group."""
        if self.process:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGKILL)

    def overdue(self, now: float) -> bool:
        """Whether it was asked to stop and its grace is over."""
        return self.alive and self.kill_at is not None and now >= self.kill_at

    def hangs(self, now: float) -> bool:
        """Whether its heartbeat file has not changed for too long.

        The file's time is only compared with itself and aged by our own monotonic clock, so a
        clock that is set back or forward never kills a healthy program.
        """
        path = self.program.heartbeat
        stopping = self.kill_at is not None
        if path is None or not self.alive or stopping or now - self.started < self.program.warm_up:
            self._pulse = (self._pulse[0], now)
            return False
        try:
            touched = path.stat().st_mtime_ns
        except OSError:
            touched = 0
        if touched != self._pulse[0]:
            self._pulse = (touched, now)
        return now - self._pulse[1] > self.program.silence


def _prepare(program: Program, parent: int) -> None:
    """In the child, before the exec: become what it must be, and die with the supervisor."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    if program.enter:
        program.enter()
        os.chdir(program.directory)
    # Last, because a change of user clears it; see prctl(2).
    if _PRCTL is not None:
        _PRCTL(_PR_SET_PDEATHSIG, int(program.orphan_signal), 0, 0, 0)
        if os.getppid() != parent:
            os._exit(0)


def _output(log: Path | None) -> contextlib.AbstractContextManager[IO[bytes] | None]:
    if log is None:
        return contextlib.nullcontext()
    rotate(log)
    return log.open("ab")


def rotate(log: Path) -> None:
    """Move a log that has grown large aside; keeps a few generations."""
    try:
        if log.stat().st_size < LOG_ROTATE_BYTES:
            return
    except OSError:
        return
    for number in range(LOG_GENERATIONS - 1, 0, -1):
        older = log.with_name(f"{log.name}.{number}")
        if older.exists():
            older.replace(log.with_name(f"{log.name}.{number + 1}"))
    log.replace(log.with_name(f"{log.name}.1"))


def tail(log: Path, lines: int = 20) -> str:
    """Return the last lines of a log; empty when there is none."""
    try:
        with log.open("rb") as stream:
            stream.seek(0, os.SEEK_END)
            stream.seek(max(0, stream.tell() - 64 * 1024))
            text = stream.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])
