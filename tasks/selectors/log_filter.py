"""Which lines of a log are asked for: the same words for pages, for plain text and for who follows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rest.parameters import Parameters
from tasks.models.history import STREAMS

PARAMETERS = ("after", "run", "stream", "q", "from", "to")
"""The names of what :meth:`LogFilter.read` reads."""

ALL_LINES = 2**63 - 1
"""As the line of a position: behind the last one of its event."""

_POSITION = re.compile(r"(0|[1-9][0-9]{0,17})(?:\.([1-9][0-9]{0,17}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class LogFilter:
    """What a reader wants of a log.

    ``after`` is the position (event, line) of the last line already known; ``n`` counts the lines of
    one run over all its streams. ``q`` is a piece of text, in any case; times are inclusive.
    """

    after: tuple[int, int] = (0, ALL_LINES)
    run: int | None = None
    stream: frozenset[str] | None = None
    q: str | None = None
    from_: datetime | None = None
    to: datetime | None = None

    @classmethod
    def read(cls, parameters: Parameters) -> LogFilter:
        """Read what a request asks for.

        Raises:
            ValidationFailed: a value that its parameter does not take.
        """
        streams = parameters.choices("stream", {name: name for name in STREAMS})
        return cls(
            after=_position(parameters),
            run=parameters.integer("run", None, minimum=1, maximum=2**31 - 1),
            stream=None if streams is None else frozenset(streams),
            q=parameters.text("q", max_length=200),
            from_=parameters.time("from"),
            to=parameters.time("to"),
        )

    @property
    def begins_after(self) -> int:
        """Return the number of the last event of which nothing is wanted any more."""
        seq, line = self.after
        return seq if line == ALL_LINES else max(0, seq - 1)

    def narrow(self, frame: dict[str, Any]) -> dict[str, Any] | None:
        """Return an event with those of its lines that are wanted; None where that is none."""
        if frame["kind"] != "log" or self.run not in (None, frame["run"]):
            return None
        if self.stream is not None and frame["data"]["stream"] not in self.stream:
            return None
        seq, known = self.after
        lines = [
            line
            for line in frame["data"]["lines"]
            if self._wants(line) and (frame["seq"] > seq or line["n"] > known)
        ]
        # Others follow the same task and are shown the same frame, so it is not changed.
        return {**frame, "data": {**frame["data"], "lines": lines}} if lines else None

    def _wants(self, line: Mapping[str, Any]) -> bool:
        if self.q is not None and self.q.lower() not in line["text"].lower():
            return False
        if self.from_ is None and self.to is None:
            return True
        at = datetime.fromisoformat(line["at"])
        return (self.from_ is None or at >= self.from_) and (self.to is None or at <= self.to)


def _position(parameters: Parameters) -> tuple[int, int]:
    text = parameters.text("after", "0", max_length=40)
    match = _POSITION.fullmatch(text or "")
    if match is None:
        raise parameters.wrong("after", "Give the number of an event, such as 17 or 17.342.")
    return int(match[1]), int(match[2]) if match[2] else ALL_LINES
