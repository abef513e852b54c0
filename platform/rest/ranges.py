"""Range requests (RFC 9110 §14): one range of bytes, or all. Plain rules."""

from __future__ import annotations

import re
from dataclasses import dataclass

from rest.errors import Problem

_ONE = re.compile(r"\s*bytes\s*=\s*([0-9]{0,18})-([0-9]{0,18})\s*", re.ASCII | re.IGNORECASE)


class RangeNotSatisfiable(Problem):
    """The range begins behind the end of the file."""

    status = 416
    code = "range_not_satisfiable"
    title = "Range not satisfiable"

    def __init__(self, size: int) -> None:
        super().__init__(
            f"The file has {size} bytes, and the range lies behind them.",
            headers={"Content-Range": f"bytes */{size}"},
        )


@dataclass(frozen=True, slots=True)
class Part:
    """``length`` bytes from ``start`` on."""

    start: int
    length: int


def part_of(header: str | None, size: int) -> Part | None:
    """Return the part of ``size`` bytes that a ``Range`` header asks for; None is the whole.

    Several ranges, other units and what cannot be read give the whole, as the RFC allows.

    Raises:
        RangeNotSatisfiable
    """
    match = _ONE.fullmatch(header or "")
    if match is None or match[1] == match[2] == "":
        return None
    if match[1] == "":
        length = min(int(match[2]), size)
        start = size - length
    else:
        start = int(match[1])
        last = int(match[2]) if match[2] else size - 1
        if match[2] and last < start:
            return None
        length = min(last, size - 1) - start + 1
    if length <= 0 or start >= size:
        raise RangeNotSatisfiable(size)
    return Part(start, length)
