"""Following a task live, through lost connections, without losing or repeating anything.

The server numbers a task's events. We remember the last number that we handed out, and whatever ends
a connection (the server restarts, a proxy gives up, nothing comes for too long) we connect again and
ask for what comes after it. An event that comes a second time all the same is dropped by its number.

The stream ends with an `end` event. A connection that ends without one says nothing, so then we ask
for the task: it is over when its status is final and its last event is one that we have had.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import Any

import httpx2

from switchyard.client.backoff import Backoff
from switchyard.client.errors import SwitchyardError, UnexpectedAnswer, is_passing
from switchyard.client.models import TERMINAL, Event, LogLine
from switchyard.client.transport import Transport

RECONNECT = Backoff(first=0.1, factor=2.0, longest=3.0)
PATIENCE = 300.0
"""Seconds without any contact after which following gives up."""

OnInterruption = Callable[[SwitchyardError | None], None]
"""Told when a connection ended early (with the error, if there was one) and it is tried again."""


class EventFollower(Iterator[Event]):
    """The events of one task as they happen, in order; the last one is of kind `end`.

    `seq` is the number of the last event handed out (hand it to a new follower to go on there);
    `status` is the task's final status once the iteration is over.

    Raises, while iterating:
        Unreachable: there was no contact for `patience` seconds.
        ApiError: the platform refuses it (a revoked token, no such task).
    """

    def __init__(
        self,
        transport: Transport,
        path: str,
        *,
        after: int = 0,
        patience: float = PATIENCE,
        on_interruption: OnInterruption | None = None,
    ) -> None:
        self.seq = after
        self.status: str | None = None
        self._transport = transport
        self._path = path
        self._patience = patience
        self._on_interruption = on_interruption
        self._contact = time.monotonic()
        self._failures = 0
        self._events = self._follow()

    def __next__(self) -> Event:
        return next(self._events)

    def close(self) -> None:
        """Close the connection; the iteration is over."""
        self._events.close()

    def _follow(self) -> Generator[Event, None, None]:
        while True:
            before = self.seq
            failure: SwitchyardError | None = None
            try:
                with closing(self._connection()) as events:
                    for event in events:
                        # An end that tells of events which never came: fetch those first.
                        if event.kind == "end" and event.seq > self.seq > before:
                            break
                        self.seq = max(self.seq, event.seq)
                        if event.kind == "end":
                            self.status = str(event.raw.get("status") or "")
                        yield event
                        if event.kind == "end":
                            return
                end = self._end()
                if end is not None:
                    yield end
                    return
            except SwitchyardError as error:
                if not is_passing(error):
                    raise
                failure = error
            if self.seq > before:
                self._failures = 0
            self._pause(failure)

    def _connection(self) -> Generator[Event, None, None]:
        """Yield the new events of one connection until it ends."""
        query = {"after": self.seq}
        with self._transport.events(f"{self._path}/events", query, str(self.seq)) as source:
            self._contact = time.monotonic()
            for message in source:
                self._contact = time.monotonic()
                event = _event(message)
                if event is not None and (event.kind == "end" or event.seq > self.seq):
                    yield event

    def _end(self) -> Event | None:
        """Ask whether the task is over; return its `end` when we have had all of its events."""
        task = self._transport.request("GET", self._path, attempts=1)
        self._contact = time.monotonic()
        status, last = str(task.get("status")), int(task.get("last_seq") or 0)
        if status not in TERMINAL or last > self.seq:
            return None
        self.status = status
        frame = {"kind": "end", "status": status, "seq": self.seq}
        return Event.of(frame)

    def _pause(self, failure: SwitchyardError | None) -> None:
        if failure is not None and time.monotonic() - self._contact > self._patience:
            raise failure
        self._failures += 1
        if self._on_interruption is not None:
            self._on_interruption(failure)
        asked = getattr(failure, "retry_after", None)
        pause = RECONNECT.pause(self._failures)
        self._transport.sleep(max(pause, min(asked or 0.0, self._patience)))


class LogFollower(Iterator[LogLine]):
    """The log lines of one task as they are printed, in order, each once.

    `run` and `stream` narrow it to one attempt and one stream. `status` is the task's final status
    once the iteration is over, `seq` the number of the last event seen.
    """

    def __init__(
        self, events: EventFollower, *, run: int | None = None, stream: str | None = None
    ) -> None:
        self._events = events
        self._run = run
        self._stream = stream
        self._lines = self._follow()

    @property
    def status(self) -> str | None:
        """The task's final status; None while it is being followed."""
        return self._events.status

    @property
    def seq(self) -> int:
        """The number of the last event seen."""
        return self._events.seq

    def __next__(self) -> LogLine:
        return next(self._lines)

    def _follow(self) -> Iterator[LogLine]:
        for event in self._events:
            for line in event.lines:
                if self._run in (None, line.run) and self._stream in (None, line.stream):
                    yield line


def _event(message: httpx2.ServerSentEvent) -> Event | None:
    """Return the event of a message; None for what is none (a snapshot, a sign of life).

    Raises:
        UnexpectedAnswer: the data are not JSON.
    """
    if not message.data:
        return None
    try:
        frame: Any = json.loads(message.data)
    except ValueError:
        raise UnexpectedAnswer("The event stream holds something that is not JSON.") from None
    if not isinstance(frame, dict) or frame.get("kind") == "snapshot":
        return None
    if not isinstance(frame.get("seq"), int) and message.id.isdigit():
        frame["seq"] = int(message.id)
    if "kind" not in frame:
        frame["kind"] = message.event
    return Event.of(frame)
