"""What the API tells, as typed values. Times are aware, durations seconds, ids strings.

Each keeps the whole answer in `raw`, so a newer server's members are not lost. Members that are
missing take their empty value: an older server's answer can be read too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

TERMINAL = frozenset({"completed", "failed", "cancelled", "dropped"})
"""The statuses in which a task has ended."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """One wrong place in the input: a JSON Pointer, `query:NAME` or `header:NAME`."""

    pointer: str
    code: str
    detail: str

    @classmethod
    def of(cls, value: object) -> Self:
        """Read one entry of a problem's `errors`."""
        data = _object(value)
        return cls(_text(data, "pointer"), _text(data, "code"), _text(data, "detail"))


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a task is: 0 to 100, and the step in words."""

    percent: float = 0
    step: str = ""

    @classmethod
    def of(cls, value: object) -> Self:
        """Read `{"percent", "step"}`."""
        data = _object(value)
        return cls(_number(data, "percent") or 0, _text(data, "step"))


@dataclass(frozen=True, slots=True)
class WaitingFor:
    """Why a task does not run yet; `position` is its place in the lane, from 1."""

    reason: str
    detail: str = ""
    position: int | None = None

    @classmethod
    def of(cls, value: object) -> Self | None:
        """Read `{"reason", "detail", "position"}`; None where it is null."""
        if not isinstance(value, Mapping):
            return None
        return cls(_text(value, "reason"), _text(value, "detail"), value.get("position"))


@dataclass(frozen=True, slots=True)
class TaskFailure:
    """Why a task or run did not succeed: a stable code, a message, the exception's class."""

    code: str
    message: str = ""
    type: str = ""

    @classmethod
    def of(cls, value: object) -> Self | None:
        """Read `{"code", "message", "type"}`; None where it is null."""
        if not isinstance(value, Mapping):
            return None
        return cls(_text(value, "code"), _text(value, "message"), _text(value, "type"))


@dataclass(frozen=True, slots=True)
class Run:
    """One attempt at a task; `attempt` counts from 1."""

    id: str
    attempt: int
    status: str
    started_at: datetime | None = None
    finished_at: datetime | None = None
    exit_code: int | None = None
    error: TaskFailure | None = None
    result: Any = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, value: object) -> Self:
        """Read a run's JSON."""
        data = _object(value)
        return cls(
            id=_text(data, "id"),
            attempt=int(_number(data, "attempt") or 0),
            status=_text(data, "status"),
            started_at=time_of(data.get("started_at")),
            finished_at=time_of(data.get("finished_at")),
            exit_code=data.get("exit_code"),
            error=TaskFailure.of(data.get("error")),
            result=data.get("result"),
            raw=data,
        )


@dataclass(frozen=True, slots=True)
class Task:
    """One request for work; `ended` tells whether its status is final."""

    id: str
    tenant: str
    type: str
    queue: str
    status: str
    status_reason: str | None = None
    priority: int = 0
    waiting_for: WaitingFor | None = None
    progress: Progress = Progress()
    params: Mapping[str, Any] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    key: str | None = None
    depends_on: tuple[str, ...] = ()
    dependents: tuple[str, ...] = ()
    submitted_by: str | None = None
    schedule: str | None = None
    cancel_requested: bool = False
    attempt: int = 0
    max_retries: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)
    result: Any = None
    result_expired: bool = False
    error: TaskFailure | None = None
    created_at: datetime | None = None
    scheduled_for: datetime | None = None
    queued_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    next_retry_at: datetime | None = None
    last_seq: int = 0
    links: Mapping[str, str] = field(default_factory=dict)
    runs: tuple[Run, ...] = ()
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def ended(self) -> bool:
        """Whether the status is final: completed, failed, cancelled or dropped."""
        return self.status in TERMINAL

    @classmethod
    def of(cls, value: object) -> Self:
        """Read a task's JSON."""
        data = _object(value)
        return cls(
            id=_text(data, "id"),
            tenant=_text(data, "tenant"),
            type=_text(data, "type"),
            queue=_text(data, "queue"),
            status=_text(data, "status"),
            status_reason=data.get("status_reason"),
            priority=int(_number(data, "priority") or 0),
            waiting_for=WaitingFor.of(data.get("waiting_for")),
            progress=Progress.of(data.get("progress")),
            params=_object(data.get("params")),
            labels=_object(data.get("labels")),
            key=data.get("key"),
            depends_on=tuple(data.get("depends_on") or ()),
            dependents=tuple(data.get("dependents") or ()),
            submitted_by=data.get("submitted_by"),
            schedule=data.get("schedule"),
            cancel_requested=data.get("cancel_requested") is not None,
            attempt=int(_number(data, "attempt") or 0),
            max_retries=int(_number(data, "max_retries") or 0),
            counts=_object(data.get("counts")),
            result=data.get("result"),
            result_expired=bool(data.get("result_expired")),
            error=TaskFailure.of(data.get("error")),
            created_at=time_of(data.get("created_at")),
            scheduled_for=time_of(data.get("scheduled_for")),
            queued_at=time_of(data.get("queued_at")),
            started_at=time_of(data.get("started_at")),
            finished_at=time_of(data.get("finished_at")),
            next_retry_at=time_of(data.get("next_retry_at")),
            last_seq=int(_number(data, "last_seq") or 0),
            links=_object(data.get("links")),
            runs=tuple(Run.of(run) for run in data.get("runs") or ()),
            raw=data,
        )


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of output; `n` counts the lines of one run, over all its streams."""

    seq: int
    n: int
    run: int | None
    stream: str
    text: str
    at: datetime | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, value: object) -> Self:
        """Read a line of the log page, or of a log event joined with its event's members."""
        data = _object(value)
        return cls(
            seq=int(_number(data, "seq") or 0),
            n=int(_number(data, "n") or 0),
            run=data.get("run"),
            stream=_text(data, "stream"),
            text=_text(data, "text"),
            at=time_of(data.get("at")),
            raw=data,
        )


@dataclass(frozen=True, slots=True)
class Event:
    """One numbered fact about a task: state, progress, log, error, note; the last one is `end`."""

    seq: int
    kind: str
    run: int | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    at: datetime | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def lines(self) -> tuple[LogLine, ...]:
        """The lines of a log event; none for another kind."""
        if self.kind != "log":
            return ()
        shared = {"seq": self.seq, "run": self.run, "stream": self.data.get("stream", "")}
        return tuple(LogLine.of({**shared, **line}) for line in self.data.get("lines", ()))

    @classmethod
    def of(cls, value: object) -> Self:
        """Read an event's frame."""
        data = _object(value)
        return cls(
            seq=int(_number(data, "seq") or 0),
            kind=_text(data, "kind"),
            run=data.get("run"),
            data=_object(data.get("data")),
            at=time_of(data.get("at")),
            raw=data,
        )


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file that a run has left. `name` is a path that its handler chose: never trust it as one."""

    id: str
    name: str
    size: int
    run: int | None = None
    sha256: str = ""
    media_type: str = ""
    created_at: datetime | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, value: object) -> Self:
        """Read an entry of the list of artifacts."""
        data = _object(value)
        return cls(
            id=_text(data, "id"),
            name=_text(data, "name"),
            size=int(_number(data, "size") or 0),
            run=data.get("run"),
            sha256=_text(data, "sha256"),
            media_type=_text(data, "media_type"),
            created_at=time_of(data.get("created_at")),
            raw=data,
        )


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The answer to a cancel: `changed` only for the call that set it."""

    changed: bool
    task: Task

    @classmethod
    def of(cls, value: object) -> Self:
        """Read `{"changed", "task"}`."""
        data = _object(value)
        return cls(bool(data.get("changed")), Task.of(data.get("task")))


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer to a dry run: would it be accepted, would it start or wait, and why."""

    accepted: bool
    would: str
    waiting_for: WaitingFor | None = None
    position: int | None = None
    estimated_start: datetime | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, value: object) -> Self:
        """Read `{"accepted", "would", "waiting_for", "position", "estimated_start"}`."""
        data = _object(value)
        return cls(
            accepted=bool(data.get("accepted")),
            would=_text(data, "would"),
            waiting_for=WaitingFor.of(data.get("waiting_for")),
            position=data.get("position"),
            estimated_start=time_of(data.get("estimated_start")),
            raw=data,
        )


def time_of(value: object) -> datetime | None:
    """Return an RFC 3339 time; None for anything else."""
    if not isinstance(value, str):
        return None
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        return None


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(data: Mapping[str, Any], name: str) -> str:
    value = data.get(name)
    return value if isinstance(value, str) else ""


def _number(data: Mapping[str, Any], name: str) -> float | None:
    value = data.get(name)
    return value if isinstance(value, int | float) else None
