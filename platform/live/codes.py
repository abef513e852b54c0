"""Why a socket is closed: its codes, and the problems that lead to them."""

from __future__ import annotations

from rest.errors import (
    BadRequest,
    Forbidden,
    NotFound,
    Problem,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
)

FINISHED = 1000
BINARY = 1003
TOO_BIG = 1009
BROKEN = 1011
RESTART = 1012
TRY_LATER = 1013
BAD = 4400
NOT_AUTHENTICATED = 4401
NOT_FOUND = 4404
READS_NOTHING = 4408
TOO_MANY = 4429

REASON_BYTES = 123
"""The longest reason that a close frame takes (RFC 6455 §5.5)."""


class Gone(Exception):
    """The client has left; there is nobody to say anything to."""


class Goodbye(Exception):
    """Ends a connection with a code and a sentence."""

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason.encode()[:REASON_BYTES].decode(errors="ignore")


def code_of(problem: Problem) -> int:
    """Return the code for a problem that would have been an HTTP answer.

    Who may not read a task is told the same as who asks for one that does not exist.
    """
    if isinstance(problem, Unauthenticated):
        return NOT_AUTHENTICATED
    if isinstance(problem, NotFound | Forbidden):
        return NOT_FOUND
    if isinstance(problem, BadRequest):
        return BAD
    if isinstance(problem, TooManyRequests):
        return TOO_MANY
    if isinstance(problem, Unavailable):
        return TRY_LATER
    return BROKEN
