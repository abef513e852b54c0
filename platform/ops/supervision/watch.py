"""Keep a set of programs running: one thread, woken by signals, without busy waiting.

A program that ends by itself is started again after its back-off; what it leaves running is killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Collection
from types import FrameType, TracebackType

from ops.supervision.processes import children, descendants
from ops.supervision.programs import BACKOFF_MAX, Program, Watched

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# How often heartbeat files are looked at, and the longest sleep of the loop.
LOOK_EVERY = 1.0
_PR_SET_CHILD_SUBREAPER = 36


class Interrupted(Exception):
    """Somebody asked the supervisor to stop while it was still starting things."""


class Watch:
    """The programs of one supervisor, by name.

    ``tell`` gets a sentence about everything that a person may want to know.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.tell = tell
        self.programs: dict[str, Watched] = {}
        #: How often a stop signal came; the second one means "hurry".
        self.stop_requests = 0
        self._once: dict[int, int | None] = {}
        self._retired: set[str] = set()
        self._listens: list[int] = []
        self._next_look = 0.0
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._old: dict[int, object] = {}

    def __enter__(self) -> Watch:
        """Take the signals, and become the parent of whatever is orphaned below."""
        self._old_wakeup = signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        for number in STOP_SIGNALS:
            self._old[number] = signal.signal(number, self._on_stop)
        self._old[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda *_: None)
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        signal.set_wakeup_fd(self._old_wakeup)
        for number, handler in self._old.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _on_stop(self, _number: int, _frame: FrameType | None) -> None:
        self.stop_requests += 1

    def add(self, program: Program) -> Watched:
        """Start a program and keep it running from now on."""
        watched = Watched(program)
        self.programs[program.name] = watched
        watched.start()
        return watched

    def listen(self, descriptor: int) -> None:
        """Wake :meth:`turn` also when a descriptor becomes readable; the caller reads it."""
        self._listens.append(descriptor)

    def turn(self, at_most: float = LOOK_EVERY) -> None:
        """Sleep until something happens (at most so many seconds) and deal with it."""
        now = time.monotonic()
        due = [watched.due for watched in self.programs.values() if watched.due is not None]
        wait = max(0.0, min([at_most, LOOK_EVERY, *(moment - now for moment in due)]))
        self._sleep(wait)
        self._reap()
        now = time.monotonic()
        self._see_off(now)
        for watched in self.programs.values():
            if watched.due is not None and now >= watched.due:
                self._restart(watched)
            elif watched.hangs(now):
                self.tell(f"{watched.program.name} hangs (no heartbeat): killing it")
                watched.kill()
        if now >= self._next_look:
            self._next_look = now + LOOK_EVERY
            self._end_adopted()

    def until(self, condition: Callable[[], bool], *, seconds: float, every: float = 0.02) -> bool:
        """Keep things running until the condition holds; False when the time is up.

        Raises:
            Interrupted: when a stop signal comes meanwhile.
        """
        deadline = time.monotonic() + seconds
        while True:
            if self.stop_requests:
                raise Interrupted
            if condition():
                return True
            if time.monotonic() >= deadline:
                return False
            self.turn(every)
            every = min(every * 1.5, 0.25)

    def once(self, program: Program, *, seconds: float) -> int | None:
        """Run a program to its end and return its exit code; None when the time was up.

        Raises:
            Interrupted: when a stop signal comes meanwhile (the program is killed).
        """
        watched = Watched(program)
        watched.start()
        pid = watched.pid
        assert pid is not None  # noqa: S101 - start() has just set it
        self._once[pid] = None
        try:
            if not self.until(lambda: self._once[pid] is not None, seconds=seconds):
                return None
            return self._once[pid]
        finally:
            if self._once[pid] is None:
                watched.kill()
            del self._once[pid]
            if watched.process:
                watched.process.returncode = 0

    def stop(
        self, names: Collection[str] | None = None, *, meanwhile: Callable[[], None] | None = None
    ) -> None:
        """End the named programs (default all) together, each within its grace.

        One more stop signal while they are waited for means "now": what is left is killed.
        ``meanwhile`` is called at least four times a second.
        """
        chosen = [
            watched
            for name, watched in self.programs.items()
            if watched.alive and (names is None or name in names)
        ]
        requests = max(self.stop_requests, 1)
        for watched in chosen:
            watched.ask_to_stop()
        while left := [watched for watched in chosen if watched.alive]:
            for watched in left:
                if watched.overdue(time.monotonic()) or self.stop_requests > requests:
                    watched.kill()
            self._sleep(0.25)
            self._reap()
            if meanwhile:
                meanwhile()
        for watched in list(self.programs.values()):
            if names is None or watched.program.name in names:
                del self.programs[watched.program.name]

    def retire(self, name: str) -> None:
        """End a program within its grace and forget it; the others go on (:meth:`turn` sees to it)."""
        self._retired.add(name)
        self.programs[name].ask_to_stop()

    def let_go(self, name: str) -> None:
        """End a program once it has finished what it does, however long that takes, and forget it."""
        self._retired.add(name)
        self.programs[name].ask_to_leave()

    def _see_off(self, now: float) -> None:
        """Kill a retired program that takes too long, and forget one that has ended."""
        for name in tuple(self._retired):
            watched = self.programs.get(name)
            if watched is not None and watched.overdue(now):
                watched.kill()
            if watched is None or not watched.alive:
                self.programs.pop(name, None)
                self._retired.discard(name)

    def end_strays(self, *, seconds: float = 5.0) -> None:
        """Kill every process that is still below us: orphans that became our children."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            strays = descendants(os.getpid())
            if not strays:
                return
            for pid in strays:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            self._sleep(0.02)
            self._reap()

    def _end_adopted(self) -> None:
        """Kill children that we did not start: what a dead program of ours left behind.

        We are their subreaper, so an orphan below us becomes our child. Whoever watches therefore
        starts processes through this class only.
        """
        for pid in self.adopted():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)

    def adopted(self) -> list[int]:
        """Return the living children that we did not start: orphans of what we did start."""
        own = {watched.pid for watched in self.programs.values()} | self._once.keys()
        return [pid for pid in children(os.getpid()) if pid not in own]

    def _sleep(self, seconds: float) -> None:
        readable, _, _ = select.select([self._wake_read, *self._listens], [], [], seconds)
        if self._wake_read in readable:
            with contextlib.suppress(BlockingIOError):
                while os.read(self._wake_read, 512):
                    pass

    def _reap(self) -> None:
        """Collect every dead child, also adopted ones."""
        by_pid = {watched.pid: watched for watched in self.programs.values() if watched.pid}
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            # Whatever this one leaves behind is ours from now on: look at once.
            self._next_look = 0.0
            code = os.waitstatus_to_exitcode(status)
            if pid in self._once:
                self._once[pid] = code
            elif pid in by_pid:
                watched = by_pid[pid]
                watched.ended(code)
                if not watched.stopping:
                    self.tell(f"{watched.program.name} ended ({ending(code)}); starting it again")

    def _restart(self, watched: Watched) -> None:
        try:
            watched.start()
        except OSError as error:
            self.tell(f"{watched.program.name} cannot be started: {error}")
            watched.due = time.monotonic() + watched.backoff
            watched.backoff = min(watched.backoff * 2, BACKOFF_MAX)


def ending(code: int) -> str:
    """Say in words how a process ended (``exit code 1``, ``SIGKILL``)."""
    if code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        return signal.Signals(-code).name
    return f"signal {-code}"
