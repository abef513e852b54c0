"""Watching a sandbox to its end: its pipes, its clock, its lease, and what is asked of it."""

from __future__ import annotations

import math
import os
import select
import time
from _signal import SIGTERM  # type: ignore[import-not-found]
from _signal import signal as take_signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from types import FrameType

from django.conf import settings

from switchyard.errors import ProtocolError
from switchyard.protocol import (
    Artifact,
    Checkpoint,
    Error,
    Log,
    Message,
    MessageDecoder,
    Progress,
    Result,
    Steering,
)
from tasks.errors import Fenced
from tasks.services import append as stored
from tasks.services.claim import Claimed, asked, renew
from workers.sandbox import Exit, Sandboxed
from workers.supervisor.lease import LeaseWatch
from workers.supervisor.meter import Meter
from workers.supervisor.output import Output
from workers.supervisor.storing import Storing
from workers.supervisor.verdict import Heard
from workers.worker_steps import draining_since

READ_BYTES = 64 * 1024
ASK_SECONDS = 0.5
"""How often the supervisor looks whether a cancel was asked for."""

REASONS = {
    "cancel": "user_cancelled",
    "time": "timed_out",
    "stop": "shutdown",
    "preempt": "preempted",
}
"""What a handler that is asked to stop is told, by what it is asked for."""

_sigterm_at: list[float] = []


@contextmanager
def sigterm_noticed() -> Iterator[None]:
    """Note SIGTERM instead of dying of it at any bytecode, even inside a COMMIT."""

    def note(_number: int, _frame: FrameType | None) -> None:
        _sigterm_at.append(time.monotonic())

    before = take_signal(SIGTERM, note)
    try:
        yield
    finally:
        # Celery's own handler must be back before the task returns: the child is reaped through it.
        take_signal(SIGTERM, before)


def stop_began() -> float | None:
    """Return when this worker was told to stop (monotonic), or None."""
    since = draining_since()
    if since is None and _sigterm_at:
        return _sigterm_at[0]
    return since


class Watch:
    """The supervisor's loop over one sandbox."""

    def __init__(
        self,
        sandboxed: Sandboxed,
        claimed: Claimed,
        output: Output,
        heard: Heard,
        *,
        clock: Callable[[], datetime],
        meter: Meter,
        lease: LeaseWatch,
        deadline: float | None,
        stdout: str,
        stderr: str,
    ) -> None:
        self._sandboxed = sandboxed
        self._claimed = claimed
        self._output = output
        self._heard = heard
        self._clock = clock
        self._meter = meter
        self._deadline = deadline
        self._names = {sandboxed.stdout: stdout, sandboxed.stderr: stderr}
        self._decoder = MessageDecoder()
        self._storing = Storing(claimed, output)
        self._terminate_at: float | None = None
        self._kill_at: float | None = None
        self._ending = False
        self.cancel_asked = False
        now = time.monotonic()
        self._next = {
            "renew": lease.renewed_at + settings.SWITCHYARD.heartbeat,
            "ask": now + ASK_SECONDS,
        }
        self._lease = lease
        lease.guard(sandboxed.kill)
        self._poll = select.poll()
        self._open = {sandboxed.stdout, sandboxed.stderr, sandboxed.messages}
        for descriptor in (*self._open, sandboxed.pidfd):
            self._poll.register(descriptor, select.POLLIN)

    def until_it_ends(self) -> Exit:
        """Watch until nothing of the tree lives and all it said is stored.

        Raises:
            Fenced: another attempt has taken over; the tree is dead.
            LeaseLost: the lease was not renewed in time; the tree is dead.
        """
        try:
            while not self._round():
                self._lease.check()
            self._lease.check()
            end = self._sandboxed.wait(timeout=30)
            self._lease.guard(None)
            self._drain()
            if end.signal is None and self._heard.stopped_for is None:
                self._hear_the_last()
            self._tell(self._output.close(self._clock()))
            self._storing.flush(final=True)
        except Fenced:
            self._sandboxed.kill()
            raise
        finally:
            self._lease.guard(None)
        return end

    # -- one round ----------------------------------------------------------------------------------

    def _round(self) -> bool:
        """Wait for something to happen and do it; return whether the handler has ended."""
        ended = False
        for descriptor, _ in self._poll.poll(math.ceil(self._patience() * 1000)):
            if descriptor == self._sandboxed.pidfd:
                ended = True
            else:
                self._read(descriptor)
        now = time.monotonic()
        self._storing.flush()
        if now >= self._next["renew"]:
            self._renew(now)
        elif now >= self._next["ask"]:
            self._ask(now)
        self._keep_limits(now)
        return ended

    def _patience(self) -> float:
        now = time.monotonic()
        moments = [self._next["renew"], self._next["ask"], self._meter.next]
        for moment in (self._storing.next, self._deadline, self._terminate_at, self._kill_at):
            if moment is not None:
                moments.append(moment)
        return max(0.0, min(moments) - now)

    def _read(self, descriptor: int) -> None:
        if self._storing.full:
            time.sleep(0.05)  # the handler waits on its full pipe; the lease watch still runs
            return
        try:
            data = os.read(descriptor, READ_BYTES)
        except BlockingIOError:
            return
        if not data:
            self._poll.unregister(descriptor)
            self._open.discard(descriptor)
        elif descriptor == self._sandboxed.messages:
            self._hear(data)
        else:
            self._tell(self._output.feed(self._names[descriptor], data, self._clock()))
            if self._output.refused:
                self._stop("protocol", self._output.refused, now=True)

    def _drain(self) -> None:
        """Read what the pipes still hold; nobody writes to them any more.

        Raises:
            OperationalError: there is more than may wait for the database, which was away for too long.
        """
        for descriptor in list(self._open):
            while descriptor in self._open and _readable(descriptor):
                if self._storing.full:
                    self._storing.flush(final=True)
                self._read(descriptor)

    # -- what the handler says ----------------------------------------------------------------------

    def _hear(self, data: bytes) -> None:
        try:
            messages = self._decoder.feed(data)
        except ProtocolError as error:
            self._stop("protocol", str(error), now=True)
            return
        for message in messages:
            self._take(message)
            if isinstance(message, Result | Error):
                self._expect_the_end()

    def _hear_the_last(self) -> None:
        """A handler that left by itself has sent whole messages only."""
        try:
            self._decoder.close()
        except ProtocolError as error:
            self._heard.stopped_for, self._heard.stop_detail = "protocol", str(error)

    def _expect_the_end(self) -> None:
        """The handler has told its end and runs its clean-ups: they have the grace, and no more."""
        until = time.monotonic() + settings.SWITCHYARD.cancel_grace
        self._kill_at = until if self._kill_at is None else min(self._kill_at, until)
        self._ending = True

    def _tell(self, steering: list[Steering]) -> None:
        for each in steering:
            if isinstance(each, Progress | Result | Error):
                self._take(each)

    def _take(self, message: Message) -> None:
        at = self._clock()
        if isinstance(message, Progress):
            self._storing.add(stored.Progress(at, message.percent, message.step))
        elif isinstance(message, Log):
            self._output.say(message.text, at, message.stream)
        elif isinstance(message, Checkpoint):
            self._heard.checkpointed = True
            self._storing.add(stored.Checkpoint(at, message.data))
        elif isinstance(message, Result):
            self._heard.result, self._heard.has_result = message.data, True
        elif isinstance(message, Error):
            self._heard.error = message
        elif isinstance(message, Artifact):
            self._name_artifact(message)

    def _name_artifact(self, message: Artifact) -> None:
        """Note a file to keep; of what a handler names without end, the first are enough."""
        if len(self._heard.artifacts) <= settings.SWITCHYARD.max_artifacts:
            self._heard.artifacts[message.name] = message.path

    # -- the claim ----------------------------------------------------------------------------------

    def _renew(self, now: float) -> None:
        answer = self._storing.answer_of(renew)
        if answer is None:
            self._next["renew"] = time.monotonic() + min(0.5, settings.SWITCHYARD.heartbeat)
            return
        self._lease.renewed(now)
        self._next["renew"] = now + settings.SWITCHYARD.heartbeat
        self._obey(answer)

    def _ask(self, now: float) -> None:
        self._next["ask"] = now + ASK_SECONDS
        if not self._storing.database_down:
            self._obey(self._storing.answer_of(asked) or "")

    # -- stopping -----------------------------------------------------------------------------------

    def _obey(self, ask: str) -> None:
        if ask in ("cancel", "kill"):
            self.cancel_asked = True
        if ask == "kill":
            self._stop("kill", "cancelled by force", now=True)
        elif ask == "cancel" or (ask == "preempt" and not self._ending):
            # Whoever has told its end already makes room by itself, and keeps that end.
            self._stop(ask, ask)

    def _keep_limits(self, now: float) -> None:
        if self._terminate_at is not None and now >= self._terminate_at:
            self._terminate_at = None
            self._sandboxed.terminate()
        if self._kill_at is not None and now >= self._kill_at:
            self._kill_at = None
            if self._ending:
                self._heard.overran = True
                grace = settings.SWITCHYARD.cancel_grace
                text = f"Killed: the clean-ups took longer than {grace:g} s."
                self._output.say(text, self._clock())
            self._sandboxed.kill()
        if self._deadline is not None and now >= self._deadline:
            self._deadline = None
            self._stop("time", "time limit")
        began = stop_began()
        if began is not None and now - began >= self._drain_seconds():
            self._stop("stop", "the worker stops")
        passed = self._meter.passed(now)
        if passed is not None:
            self._stop(*passed, now=True)

    def _drain_seconds(self) -> float:
        """How long the run goes on after its worker was told to stop.

        One that loses nothing by it is interrupted after the drain; one that would have failed for it
        is left to finish for as long again as cleaning up may take.
        """
        drain, grace = settings.SWITCHYARD.drain, settings.SWITCHYARD.cancel_grace
        harmless = self._claimed.idempotent or self._heard.checkpointed
        return drain if harmless or self._claimed.on_shutdown == "drop" else drain + grace

    def _stop(self, why: str, detail: str, *, now: bool = False) -> None:
        """Ask the handler to end, and kill its tree after the grace; ``now`` leaves the grace out."""
        if self._heard.stopped_for is not None and not now:
            return
        if self._heard.stopped_for is None or why == "kill":
            self._heard.stopped_for = why
            self._heard.stop_detail = detail
        if now:
            self._sandboxed.kill()
            return
        grace = settings.SWITCHYARD.cancel_grace
        now_at = time.monotonic()
        if self._ending:
            return  # its clean-ups already run, and have a grace of their own
        self._sandboxed.cancel(REASONS[why])
        # A Python handler sees the request by check_cancelled() and gets half of the grace to act on
        # it in peace; a command knows nothing but signals.
        self._terminate_at = now_at + (0 if self._claimed.steering else grace / 2)
        self._kill_at = now_at + grace


def _readable(descriptor: int) -> bool:
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    return bool(poller.poll(0))
