"""A handler's output: bytes as they come, to numbered lines as they are stored. Plain rules.

Nothing in here trusts the handler: a line may never end, be no text, or never stop coming. Lines
are numbered per run, over all streams, in the order in which they were read.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from switchyard.protocol import Error, Mask, Progress, Result, Steering, steering
from tasks.services.append import Lines

LINE_CAP = 64 * 1024
"""A longer line is stored in pieces of this many bytes."""

CHUNK_LINES = 500
CHUNK_BYTES = 64 * 1024
MASK = "•••"
MASKED_VALUES, MASKED_CHARACTERS = 200, 64 * 1024
"""What one run may have masked: each line is searched for each value, and all are kept in memory."""


@dataclass(slots=True)
class _Stream:
    name: str
    rest: bytes = b""


@dataclass(slots=True)
class _Line:
    at: datetime
    stream: str
    number: int
    text: str


@dataclass(slots=True)
class Output:
    """Collects the lines of one run until they are taken to be stored.

    ``cap`` is in bytes over all streams; what comes later is read and thrown away, and one line of
    the stream ``system`` says so. With ``steered``, lines of stdout that steer are not output.
    ``refused`` says why nothing more is stored: there was more to mask than may be.
    """

    cap: int
    steered: bool = False
    total_bytes: int = 0
    total_lines: int = 0
    truncated: bool = False
    refused: str = ""
    pending_bytes: int = 0
    _streams: dict[str, _Stream] = field(default_factory=dict)
    _pending: list[_Line] = field(default_factory=list)
    _masked: list[str] = field(default_factory=list)

    def feed(self, stream: str, data: bytes, at: datetime) -> list[Steering]:
        """Take bytes of a stream and return what its lines asked for."""
        if self.truncated:
            return self._steer_only(stream, data)
        state = self._streams.setdefault(stream, _Stream(stream))
        *lines, state.rest = (state.rest + data).split(b"\n")
        asked = []
        for line in lines:
            asked.extend(self._line(state.name, line, at))
        while len(state.rest) >= LINE_CAP:
            piece, state.rest = state.rest[:LINE_CAP], state.rest[LINE_CAP:]
            self._add(state.name, piece, at)
        return asked

    def say(self, text: str, at: datetime, stream: str = "system") -> None:
        """Add lines of our own, or of the handler's log messages."""
        for line in text.split("\n"):
            self._add(stream, line.encode("utf-8", "replace"), at)

    def remark(self, text: str, at: datetime) -> None:
        """Add a line of ours that nobody may miss: also when the output was cut."""
        self._add("system", text.encode("utf-8", "replace"), at, always=True)

    def mask(self, value: str) -> None:
        """Store this value as dots from now on; where that is too much, store nothing from now on."""
        if len(value) < 3 or value in self._masked:
            return
        size = sum(map(len, self._masked)) + len(value)
        if len(self._masked) >= MASKED_VALUES or size > MASKED_CHARACTERS:
            self.refused = (
                f"more than {MASKED_VALUES} values to mask, or {MASKED_CHARACTERS:,} characters of them"
            )
            self.truncated = True
            return
        self._masked.append(value)
        self._masked.sort(key=len, reverse=True)

    def close(self, at: datetime) -> list[Steering]:
        """Take what is left without a line end as last lines."""
        asked = []
        for state in self._streams.values():
            if state.rest:
                rest, state.rest = state.rest, b""
                asked.extend(self._line(state.name, rest, at))
        return asked

    def take(self) -> list[Lines]:
        """Return everything pending as chunks, in order, and forget it."""
        chunks: list[Lines] = []
        batch: list[_Line] = []
        size = 0
        for line in self._pending:
            full = len(batch) >= CHUNK_LINES or size >= CHUNK_BYTES
            if batch and (full or batch[-1].stream != line.stream):
                chunks.append(_chunk(batch))
                batch, size = [], 0
            batch.append(line)
            size += len(line.text)
        if batch:
            chunks.append(_chunk(batch))
        self._pending = []
        self.pending_bytes = 0
        return chunks

    def _line(self, stream: str, line: bytes, at: datetime) -> list[Steering]:
        if self.steered and stream == "stdout" and line.startswith(b"::"):
            asked = steering(line.decode("utf-8", "replace"))
            if isinstance(asked, Mask):
                self.mask(asked.value)
                return []
            if asked is not None:
                return [asked]
        self._add(stream, line, at)
        return []

    def _steer_only(self, stream: str, data: bytes) -> list[Steering]:
        """Past the cap a command may still tell its result."""
        if not self.steered or stream != "stdout":
            return []
        state = self._streams.setdefault(stream, _Stream(stream))
        *lines, state.rest = (state.rest + data).split(b"\n")
        state.rest = state.rest[-LINE_CAP:]
        found = [steering(line.decode("utf-8", "replace")) for line in lines if line.startswith(b"::")]
        return [each for each in found if isinstance(each, Progress | Result | Error)]

    def _add(self, stream: str, line: bytes, at: datetime, *, always: bool = False) -> None:
        if self.truncated and not always:
            return
        if self.total_bytes + len(line) > self.cap and stream != "system":
            self.truncated = True
            line = f"Output cut: this run may write {self.cap:,} bytes.".encode()
            stream = "system"
        text = line.removesuffix(b"\r").decode("utf-8", "replace")
        for value in self._masked:
            text = text.replace(value, MASK)
        self.total_bytes += len(line) + 1
        self.total_lines += 1
        self.pending_bytes += len(line) + 1
        self._pending.append(_Line(at, stream, self.total_lines, text))


def _chunk(batch: list[_Line]) -> Lines:
    first = batch[0]
    return Lines(
        at=first.at,
        stream=first.stream,
        first_line=first.number,
        lines=tuple(line.text for line in batch),
        offsets=tuple((line.at - first.at) // timedelta(milliseconds=1) for line in batch),
    )
