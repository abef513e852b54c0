"""The supervisor's reading of what a handler writes: everything valid, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switchyard.errors import ProtocolError
from switchyard.protocol import (
    LINE_CAP,
    Artifact,
    Checkpoint,
    Error,
    Log,
    Mask,
    MessageDecoder,
    Progress,
    Result,
    parse_message,
    steering,
)

VALID: list[tuple[dict[str, Any], Any]] = [
    ({"op": "progress", "percent": 40, "step": "linting"}, Progress(40.0, "linting")),
    ({"op": "progress", "percent": 0}, Progress(0.0, "")),
    ({"op": "log", "text": "a\0b", "stream": "stderr"}, Log("a\ufffdb", "stderr")),
    ({"op": "checkpoint", "data": [1, None]}, Checkpoint([1, None])),
    ({"op": "artifact", "name": "a.txt", "path": "out/a.txt"}, Artifact("a.txt", "out/a.txt")),
    ({"op": "result", "data": {"ä": [1.5]}}, Result({"ä": [1.5]})),
    ({"op": "result", "data": None}, Result(None)),
    (
        {"op": "error", "code": "no_org", "message": "m", "retry": False},
        Error("no_org", "m", None, None, False),
    ),
]
INVALID = [
    b"",
    b"not json",
    b"[]",
    b"null",
    b'"text"',
    b"{}",
    b'{"op": "shutdown"}',
    b'{"op": ["progress"]}',
    b'{"op": "progress"}',
    b'{"op": "progress", "percent": NaN}',
    b'{"op": "progress", "percent": 1e999}',
    b'{"op": "progress", "percent": true}',
    b'{"op": "progress", "percent": 100.5}',
    b'{"op": "progress", "percent": -1}',
    b'{"op": "progress", "percent": "7"}',
    b'{"op": "progress", "percent": 1, "more": 1}',
    b'{"op": "progress", "percent": 1, "percent": 2}',
    b'{"op": "progress", "percent": 1, "step": "' + b"x" * 201 + b'"}',
    b'{"op": "log", "text": 1}',
    b'{"op": "log", "text": "x", "stream": "audit"}',
    b'{"op": "log", "text": "\xff"}',
    b'{"op": "result", "data": [1]}',
    b'{"op": "result", "data": {"a": "\\u0000"}}',
    b'{"op": "result", "data": {"\\ud800": 1}}',
    b'{"op": "checkpoint", "data": "\\udfff"}',
    b'{"op": "checkpoint", "data": ' + b"[" * 33 + b"]" * 33 + b"}",
    b'{"op": "checkpoint", "data": ' + b"[" * 100000 + b"]" * 100000 + b"}",
    b'{"op": "checkpoint", "data": ' + b"9" * 5000 + b"}",
    b'{"op": "artifact", "name": "../a", "path": "a"}',
    b'{"op": "artifact", "name": "a", "path": "/etc/passwd"}',
    b'{"op": "artifact", "name": "a", "path": "x/../../y"}',
    b'{"op": "artifact", "name": "..", "path": "a"}',
    b'{"op": "error", "code": "Bad Code", "message": "m"}',
    b'{"op": "error", "code": "x", "message": "' + b"m" * 4001 + b'"}',
    b'{"op": "error", "code": "x", "message": "m", "retry": "yes"}',
]


@pytest.mark.parametrize(("fields", "message"), VALID)
def test_each_message_is_understood(fields: dict[str, Any], message: Any) -> None:
    assert parse_message(json.dumps(fields).encode()) == message


@pytest.mark.parametrize("line", INVALID, ids=lambda line: line[:40].decode("latin-1"))
def test_anything_else_is_a_protocol_error(line: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_message(line)


def test_brackets_in_text_are_no_nesting() -> None:
    text = "[" * 1000 + '"' + "{" * 1000
    assert parse_message(json.dumps({"op": "checkpoint", "data": text}).encode()) == Checkpoint(text)


@given(st.lists(st.integers(1, 40), max_size=40))
def test_messages_arrive_in_whatever_pieces_the_pipe_makes(cuts: list[int]) -> None:
    stream = b"".join(json.dumps(fields).encode() + b"\n" for fields, _ in VALID)
    decoder = MessageDecoder()
    messages = []
    for cut in cuts:
        messages += decoder.feed(stream[:cut])
        stream = stream[cut:]
    messages += decoder.feed(stream)
    decoder.close()
    assert messages == [message for _, message in VALID]


def test_a_line_that_never_ends_is_refused_before_it_fills_the_memory() -> None:
    decoder = MessageDecoder()
    for _ in range(LINE_CAP // 65536):
        assert decoder.feed(b"x" * 65536) == []
    with pytest.raises(ProtocolError, match="longer"):
        decoder.feed(b"x")


def test_a_last_message_without_its_end_is_refused() -> None:
    decoder = MessageDecoder()
    assert decoder.feed(b'{"op": "result", "data": null}') == []
    with pytest.raises(ProtocolError):
        decoder.close()


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_but_a_protocol_error(data: bytes) -> None:
    decoder = MessageDecoder()
    try:
        decoder.feed(data)
        decoder.close()
    except ProtocolError:
        return


@pytest.mark.parametrize(
    ("line", "meaning"),
    [
        ("::progress 40 linting", Progress(40.0, "linting")),
        ("::progress 100\n", Progress(100.0, "")),
        ("::progress 33.3 a third\r\n", Progress(33.3, "a third")),
        ('::result {"a": 1}', Result({"a": 1})),
        ("::error lint_failed 3 files are bad", Error("lint_failed", "3 files are bad")),
        ("::mask hunter2", Mask("hunter2")),
        ("::progress soon", None),
        ("::progress 101", None),
        ("::progress -1", None),
        ("::progress ١", None),
        ("::result [1]", None),
        ("::result {", None),
        ("::error Bad Code", None),
        ("::mask ", None),
        ("::unknown 1", None),
        (" ::progress 1", None),
        ("progress 1", None),
        ("", None),
    ],
)
def test_printed_lines_may_steer_and_wrong_ones_are_just_output(line: str, meaning: Any) -> None:
    assert steering(line) == meaning


@given(st.text(max_size=200))
def test_no_printed_line_raises(line: str) -> None:
    steering("::result " + line)
    steering("::" + line)
