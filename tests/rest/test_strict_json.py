"""Strict JSON, without a server."""

from __future__ import annotations

import contextlib
import gc
import json
import time

import pytest

from rest.errors import BadRequest, ValidationFailed
from rest.parsing import parse_body
from rest.strict_json import MAX_DEPTH, parse_json


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "empty_body"),
        (b"  \n", "empty_body"),
        (b"[]", "not_an_object"),
        (b'"text"', "not_an_object"),
        (b"7", "not_an_object"),
        (b"null", "not_an_object"),
        ('{"a": 1}'.encode("utf-16"), "bad_json"),
        ('{"a": 1}'.encode("utf-16-le"), "bad_json"),
        (b'\xef\xbb\xbf{"a": 1}', "bad_json"),
        (b'{"a": "\xff"}', "bad_json"),
        (b'{"a": "\xed\xa0\x80"}', "bad_json"),
        (b'{"a": NaN}', "not_a_number"),
        (b'{"a": -Infinity}', "not_a_number"),
        (b'{"a": 1, "a": 2}', "duplicate_key"),
        (b'{"x": {"a": 1, "a": 1}}', "duplicate_key"),
        (b'{"a": ' + b"9" * 5000 + b"}", "bad_json"),
        (b"[" * 100_000, "too_deep"),
        (b'{"a":' * 100_000, "too_deep"),
        (b'{"a": 1', "bad_json"),
        (b'{"a": "\x00"}', "bad_json"),
        (b"{'a': 1}", "bad_json"),
        (b'{"a": 01}', "bad_json"),
    ],
)
def test_a_body_that_is_not_strict_json_is_refused(raw: bytes, code: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_body(raw)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("raw", "pointer", "code"),
    [
        (b'{"params": {"x": [1, 1e400]}}', "/params/x/1", "out_of_range"),
        (b'{"a": -1e999}', "/a", "out_of_range"),
        (b'{"a/b~c": "\\u0000"}', "/a~1b~0c", "nul_character"),
        (b'{"p": {"\\u0000": 1}}', "/p", "nul_character"),
        (b'{"a": "\\ud800"}', "/a", "lone_surrogate"),
        (b'{"\\udc00x": 1}', "", "lone_surrogate"),
        (b'{"a": 9223372036854775808}', "/a", "out_of_range"),
        (b'{"a": -9223372036854775809}', "/a", "out_of_range"),
    ],
)
def test_a_value_that_cannot_be_stored_is_pointed_at(raw: bytes, pointer: str, code: str) -> None:
    with pytest.raises(ValidationFailed) as caught:
        parse_json(raw)
    assert [(error.pointer, error.code) for error in caught.value.errors] == [(pointer, code)]


@pytest.mark.parametrize(
    "document",
    [
        {"a": 2**63 - 1, "b": -(2**63), "c": 1.5e300, "d": "😀 \u2028 é"},
        {"__proto__": {"constructor": 1}},
        {"brackets": "[" * 1000 + '"\\' + "{" * 1000},
        {"wide": [[] for _ in range(1000)]},
        [1, "any", None],
    ],
)
def test_an_ordinary_document_is_read_as_it_is(document: object) -> None:
    assert parse_json(json.dumps(document).encode()) == document
    assert parse_json(json.dumps(document, ensure_ascii=False).encode()) == document


def test_nesting_is_allowed_up_to_the_limit_and_not_beyond() -> None:
    parse_json(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)
    with pytest.raises(BadRequest):
        parse_json(b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1))


@pytest.mark.parametrize(
    "raw",
    [
        b"[" * 1_000_000,
        b'["' + b"a\\\\" * 300_000 + b"[" * 100_000,
        b'{"a":"' + b"\\u0041" * 160_000 + b'"}',
        b"[" + b"[]," * 330_000 + b"[]]",
        b'"' * 1_000_000,
        b"[" + b"1e1," * 240_000 + b"1]",
    ],
)
def test_a_hostile_body_of_a_megabyte_is_answered_within_a_second(raw: bytes) -> None:
    # What hundreds of earlier tests left in the heap is not the parser's cost.
    gc.collect()
    gc.freeze()
    try:
        began = time.process_time()
        with contextlib.suppress(BadRequest):
            parse_json(raw)
        assert time.process_time() - began < 1
    finally:
        gc.unfreeze()


def test_a_body_that_may_be_left_out_reads_as_an_empty_object() -> None:
    assert parse_body(b"", "optional") == {}
    assert parse_body(b"[1]", "any") == [1]
