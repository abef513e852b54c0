"""What is said on a socket: JSON out, and the little that a client may say."""

from __future__ import annotations

import json
from typing import Any

from rest.errors import BadRequest, ValidationFailed
from rest.strict_json import parse_json


class BadFrame(Exception):
    """A client's frame cannot be read. ``fatal``: it is beyond a slip, the connection ends."""

    def __init__(self, code: str, detail: str, *, fatal: bool = False) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.fatal = fatal


def write(frame: dict[str, Any]) -> str:
    """Return a frame as compact JSON text."""
    return json.dumps(frame, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def error_frame(code: str, detail: str) -> dict[str, Any]:
    """Return the frame that answers a bad one."""
    return {"kind": "error", "code": code, "detail": detail}


def answer(text: str) -> dict[str, Any]:
    """Return the answer to a client's frame. ``{"kind": "ping"}`` is all there is to say.

    Raises:
        BadFrame: it is not a JSON object; fatal for what no JSON library writes (NaN, NUL, half a
            surrogate pair).
    """
    try:
        said = parse_json(text.encode("utf-8", "surrogatepass"))
    except ValidationFailed as error:
        raise BadFrame(error.errors[0].code, error.errors[0].detail, fatal=True) from None
    except BadRequest as error:
        fatal = error.code == "not_a_number" or "\x00" in text
        raise BadFrame(error.code, error.detail, fatal=fatal) from None
    if not isinstance(said, dict):
        raise BadFrame("not_an_object", "Send a JSON object.")
    if said.get("kind") == "ping":
        return {"kind": "pong"}
    return error_frame("unknown_kind", 'The only kind of frame that is taken here is "ping".')
