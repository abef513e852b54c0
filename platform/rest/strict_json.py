"""Strict JSON: what RFC 8259 leaves open is refused, so that every reader sees the same document.

Refused: another encoding than UTF-8, a byte order mark, duplicate keys, NaN and infinities (also
``1e400``), integers beyond 64 bits, nesting deeper than 32, NUL characters and lone surrogates.
PostgreSQL, JavaScript and Python would otherwise each make something else of them, or fail.

Ordinary documents are read by the C parser alone: cheap searches over the raw bytes tell whether
the slower checks (a scan for depth, a walk over the result) can find anything at all.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any, NoReturn

from rest.errors import BadRequest, ValidationFailed

MAX_DEPTH = 32
MAX_INTEGER = 2**63 - 1
MIN_INTEGER = -(2**63)

# Only an escape can bring a NUL or a lone surrogate past a strict UTF-8 decoder and a strict JSON
# parser; only 19 digits or an exponent can leave the range of 64 bits or of a double.
_SUSPICIOUS = re.compile(rb"[0-9](?:[0-9]{18}|[eE])")
_STRING_OR_BRACKET = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[\[\]{}]', re.DOTALL)


scan_own: Callable[[str, int], tuple[Any, int]] = json.JSONDecoder().scan_once  # type: ignore[attr-defined]
"""Reads JSON that we or PostgreSQL wrote, from a place in a text on; gives the value, and where it ends.

Nothing is refused, nor looked at before: a supervisor copies pages for each function that it calls.
"""


class BadJSON(BadRequest):
    """The text is not JSON that this server takes."""

    code = "bad_json"
    title = "Bad JSON"


def parse_json(raw: bytes) -> Any:
    """Parse one strict JSON document.

    Raises:
        BadJSON: it is not JSON, or not in UTF-8, or nested too deep, or has duplicate keys.
        ValidationFailed: a value is out of range; the error points at it.
    """
    if raw.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        raise BadJSON("Send UTF-8 without a byte order mark.")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadJSON(f"The text is not UTF-8 (byte {error.start}).") from None
    _refuse_depth(raw)
    try:
        document = json.loads(text, object_pairs_hook=_object, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise BadJSON(f"Not JSON: {error.msg} at line {error.lineno}, column {error.colno}.") from None
    except ValueError:  # int() refuses more than 4300 digits
        raise BadJSON("An integer is too long; 64 bits are the limit.") from None
    except RecursionError:
        raise _too_deep() from None
    if b"\\u" in raw or _SUSPICIOUS.search(raw):
        _refuse_values(document, "")
    return document


def pointer_token(key: object) -> str:
    """Escape one key for a JSON Pointer (RFC 6901)."""
    return str(key).replace("~", "~0").replace("/", "~1")


def text_fault(text: str) -> tuple[str, str] | None:
    """Return ``(code, detail)`` when the text cannot be stored, else ``None``."""
    if "\x00" in text:
        return "nul_character", "A NUL character is not allowed in text."
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return "lone_surrogate", "Half of a surrogate pair is not a character."
    return None


def _refuse_depth(raw: bytes) -> None:
    """Count the open brackets outside strings, before any parser recurses over them."""
    if raw.count(b"[") + raw.count(b"{") <= MAX_DEPTH:
        return
    depth = 0
    for match in _STRING_OR_BRACKET.finditer(raw):
        token = match.group()
        if token in (b"[", b"{"):
            depth += 1
            if depth > MAX_DEPTH:
                raise _too_deep()
        elif token in (b"]", b"}"):
            depth -= 1


def _too_deep() -> BadJSON:
    return BadJSON(f"The document is nested deeper than {MAX_DEPTH}.", code="too_deep")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                shown = key.encode("utf-8", "backslashreplace").decode()[:100]
                raise BadJSON(f"The key {shown!r} occurs twice.", code="duplicate_key")
            seen.add(key)
    return made


def _refuse_constant(name: str) -> NoReturn:
    raise BadJSON(f"{name} is not a JSON number.", code="not_a_number")


def _refuse_values(value: Any, pointer: str) -> None:
    """Walk the document; depth is at most 32 here, so recursion is safe."""
    if isinstance(value, str):
        fault = text_fault(value)
        if fault:
            raise ValidationFailed.at(pointer, *fault)
    elif isinstance(value, dict):
        for key, member in value.items():
            fault = text_fault(key)
            if fault:
                raise ValidationFailed.at(pointer, *fault)
            _refuse_values(member, f"{pointer}/{pointer_token(key)}")
    elif isinstance(value, list):
        for index, member in enumerate(value):
            _refuse_values(member, f"{pointer}/{index}")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValidationFailed.at(pointer, "out_of_range", "The number is too large.")
    elif isinstance(value, int) and not MIN_INTEGER <= value <= MAX_INTEGER:
        raise ValidationFailed.at(pointer, "out_of_range", "The integer does not fit 64 bits.")
