"""The messages of a handler, as the supervisor reads them: nothing in here trusts the other side.

Descriptor 4 carries NDJSON, one message per line of at most 1 MiB:

    {"op": "progress", "percent": 40, "step": "linting"}
    {"op": "log", "text": "...", "stream": "system"}
    {"op": "checkpoint", "data": {...}}            any JSON value
    {"op": "artifact", "name": "report.html", "path": "reports/report.html"}
    {"op": "result", "data": {...}}                an object or null; ends the messages
    {"op": "error", "code", "message", "type", "detail", "retry"}   ends the messages

Anything else is a `ProtocolError`, which fails the run: unknown or missing fields, wrong types, NaN,
infinity, duplicate keys, NUL or lone surrogates in text, nesting deeper than 32, invalid UTF-8.

A type with `steering` may print some of it on stdout instead, one per line (`steering`):

    ::progress 40 linting    ::result {"json": 1}    ::error CODE message    ::mask VALUE
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, NoReturn

from switchyard.errors import CHECKPOINT_CAP, MESSAGE_CAP, ProtocolError

LINE_CAP = 1024 * 1024
ENVELOPE = 64
"""More bytes than a checkpoint's message has around its data."""
DEPTH_CAP = 32
STEP_CAP = 200
NAME_CAP = 255
PATH_CAP = 4096
STREAMS = ("stdout", "stderr", "system")
CODE = re.compile(r"[a-z][a-z0-9_.]{0,63}", re.ASCII)
STEERING = re.compile(r"::(progress|result|error|mask)(?: (.*))?", re.DOTALL)
PERCENT = re.compile(r"\d{1,3}(?:\.\d{1,6})?", re.ASCII)
NESTING = re.compile(r'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]')
UNSTORABLE = re.compile("[\0\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Progress:
    """The handler got this far: 0 to 100, and what it is at (at most 200 characters)."""

    percent: float
    step: str = ""


@dataclass(frozen=True, slots=True)
class Log:
    """Text for the run's log, in one of its three streams; NUL arrives as U+FFFD."""

    text: str
    stream: str = "system"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a later attempt is given as `last_checkpoint`."""

    data: Any


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file to keep; `path` is relative to the work folder and has no `..`, but may be a link."""

    name: str
    path: str


@dataclass(frozen=True, slots=True)
class Result:
    """The handler returned this."""

    data: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Error:
    """The handler failed: `type` is the exception's class for `handler_error`, else None."""

    code: str
    message: str
    type: str | None = None
    detail: Any = None
    retry: bool | None = None


@dataclass(frozen=True, slots=True)
class Mask:
    """A value that is not to appear in what is stored of the output."""

    value: str


Message = Progress | Log | Checkpoint | Artifact | Result | Error
Steering = Progress | Result | Error | Mask


class MessageDecoder:
    """Turns the bytes of descriptor 4 into messages, in whatever pieces they come."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[Message]:
        """The messages that `data` completes; raises ProtocolError at the first that is none."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LINE_CAP:
            raise ProtocolError(f"A message is longer than {LINE_CAP} bytes.")
        return [parse_message(line) for line in lines]

    def close(self) -> None:
        """Say that no more bytes come; a message without its line end is a ProtocolError."""
        if self._rest:
            raise ProtocolError("The last message has no line end.")


def parse_message(line: bytes) -> Message:
    """The message that one line (without its line end) holds."""
    if len(line) > LINE_CAP:
        raise ProtocolError(f"A message is longer than {LINE_CAP} bytes.")
    fields = parse_json(line)
    if not isinstance(fields, dict):
        raise ProtocolError("A message must be a JSON object.")
    match fields.pop("op", None):
        case "progress":
            return _progress(fields)
        case "log":
            return _log(fields)
        case "checkpoint":
            _only(fields, "checkpoint", required={"data"})
            if len(line) > CHECKPOINT_CAP + ENVELOPE:
                raise ProtocolError(f"A checkpoint may have {CHECKPOINT_CAP:,} bytes.")
            return Checkpoint(fields["data"])
        case "artifact":
            return _artifact(fields)
        case "result":
            _only(fields, "result", required={"data"})
            return _result(fields["data"])
        case "error":
            return _error(fields)
        case unknown:
            raise ProtocolError(f"{unknown!r:.80} is no message.")


def parse_json(text: bytes | str) -> Any:
    """A JSON value that PostgreSQL can store: finite numbers, clean text, unique keys, 32 levels."""
    try:
        decoded = text.decode("utf-8") if isinstance(text, bytes) else text
        _check_depth(decoded)
        value = json.loads(
            decoded,
            parse_constant=_refuse_constant,
            parse_float=_finite,
            object_pairs_hook=_unique_keys,
        )
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise ProtocolError(f"A message is not valid JSON: {error}"[:300]) from None
    return value


def steering(line: str) -> Steering | None:
    """What one line of stdout asks for, or None when it is output like any other.

    A line that looks like steering and is wrong is output too: a program that prints
    `::progress soon` has not failed for it.
    """
    found = STEERING.fullmatch(line.rstrip("\r\n"))
    if found is None:
        return None
    rest = found[2] or ""
    try:
        match found[1]:
            case "progress":
                percent, _, step = rest.partition(" ")
                if PERCENT.fullmatch(percent) is None:
                    return None
                return _progress({"percent": float(percent), "step": step.strip()[:STEP_CAP]})
            case "result":
                return _result(_storable(parse_json(rest)))
            case "error":
                code, _, message = rest.partition(" ")
                return _error({"code": code, "message": message.strip()[:MESSAGE_CAP]})
            case _:
                return Mask(rest) if rest.strip() else None
    except ProtocolError:
        return None


def _progress(fields: dict[str, Any]) -> Progress:
    _only(fields, "progress", required={"percent"}, optional={"step"})
    percent = fields["percent"]
    if isinstance(percent, bool) or not isinstance(percent, int | float) or not 0 <= percent <= 100:
        raise ProtocolError("progress.percent must be a number from 0 to 100.")
    return Progress(float(percent), _text(fields.get("step", ""), "progress.step", STEP_CAP))


def _log(fields: dict[str, Any]) -> Log:
    _only(fields, "log", required={"text"}, optional={"stream"})
    text, stream = fields["text"], fields.get("stream", "system")
    if not isinstance(text, str) or stream not in STREAMS:
        raise ProtocolError("A log message needs text and one of the streams stdout, stderr, system.")
    return Log(UNSTORABLE.sub("\ufffd", text), stream)


def _artifact(fields: dict[str, Any]) -> Artifact:
    _only(fields, "artifact", required={"name", "path"})
    name = _text(fields["name"], "artifact.name", NAME_CAP)
    path = _text(fields["path"], "artifact.path", PATH_CAP)
    if not name or "/" in name or name in (".", ".."):
        raise ProtocolError("artifact.name must be a plain file name.")
    if not path or path.startswith("/") or ".." in path.split("/"):
        raise ProtocolError("artifact.path must be relative to the work folder, without `..`.")
    return Artifact(name, path)


def _result(data: Any) -> Result:
    if data is not None and not isinstance(data, dict):
        raise ProtocolError("A result must be a JSON object or null.")
    return Result(_storable(data))


def _error(fields: dict[str, Any]) -> Error:
    _only(fields, "error", required={"code", "message"}, optional={"type", "detail", "retry"})
    code, kind, retry = fields["code"], fields.get("type"), fields.get("retry")
    if not isinstance(code, str) or CODE.fullmatch(code) is None:
        raise ProtocolError("error.code must be lower case words joined by _ or a dot.")
    if retry is not None and not isinstance(retry, bool):
        raise ProtocolError("error.retry must be true, false or null.")
    return Error(
        code=code,
        message=_text(fields["message"], "error.message", MESSAGE_CAP),
        type=None if kind is None else _text(kind, "error.type", NAME_CAP),
        detail=_storable(fields.get("detail")),
        retry=retry,
    )


def _only(
    fields: dict[str, Any],
    op: str,
    required: set[str],
    optional: frozenset[str] | set[str] = frozenset(),
) -> None:
    if missing := required - fields.keys():
        raise ProtocolError(f"{op} lacks {', '.join(sorted(missing))}.")
    if unknown := fields.keys() - required - optional:
        raise ProtocolError(f"{op} has unknown fields: {', '.join(sorted(unknown))[:200]}.")
    if op == "checkpoint":
        _storable(fields["data"])


def _text(value: Any, name: str, cap: int) -> str:
    if not isinstance(value, str) or len(value) > cap or UNSTORABLE.search(value):
        raise ProtocolError(f"{name} must be text of at most {cap} characters.")
    return value


def _storable(value: Any) -> Any:
    """The value itself, once every text in it is one that PostgreSQL can hold."""
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, str) and UNSTORABLE.search(item):
            raise ProtocolError("Text in a message holds a NUL or half a character.")
        if isinstance(item, dict):
            pending.extend(item.keys())
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)
    return value


def _check_depth(text: str) -> None:
    """Refuse deep nesting before the parser recurses into it; brackets inside strings do not count."""
    depth = 0
    for token in NESTING.finditer(text):
        if token[0] in "[{":
            depth += 1
            if depth > DEPTH_CAP:
                raise ValueError(f"nested deeper than {DEPTH_CAP}")
        elif token[0] in "]}":
            depth -= 1


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError("a number is too large")
    return number


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a key appears twice")
    return fields
