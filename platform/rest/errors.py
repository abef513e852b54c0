"""The errors that a client may be told about; the packages above subclass them for their own.

::

    Problem                    an error with an HTTP status, a stable code and one clear sentence
    ├── BadRequest        400
    │   └── ValidationFailed   with `errors`, one per wrong place
    ├── Unauthenticated   401
    ├── Forbidden         403
    │   └── ScopeRequired      names the scope or the role that is needed
    ├── NotFound          404  the same words for foreign, unknown and malformed
    ├── MethodNotAllowed  405
    ├── NotAcceptable     406
    ├── Conflict          409
    ├── PreconditionFailed 412
    ├── TooLarge          413
    ├── UnsupportedMedia  415
    ├── PreconditionRequired 428
    ├── TooManyRequests   429  with Retry-After
    └── Unavailable       503  with Retry-After

No Django here: plain rules raise these too. Shapes follow RFC 9457.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class FieldError:
    """One wrong place in the input.

    ``pointer`` is a JSON Pointer into the body (``""`` is the whole body), or ``query:NAME`` or
    ``header:NAME``; ``code`` is stable; ``detail`` is for people.
    """

    pointer: str
    code: str
    detail: str


class Problem(Exception):
    """An error that a client is told about.

    A subclass fixes ``status``, ``code`` and ``title``; ``default_detail`` is its sentence where
    the place that raises it has nothing better to say. ``extra`` become members of the answer.
    """

    status: ClassVar[int] = 500
    code: str = "internal_error"
    title: str = "Internal error"
    default_detail: ClassVar[str] = "Something went wrong on our side."

    def __init__(
        self,
        detail: str = "",
        *,
        code: str | None = None,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
        **extra: Any,
    ) -> None:
        self.detail = detail or self.default_detail
        super().__init__(self.detail)
        if code is not None:
            self.code = code
        self.errors = list(errors)
        self.headers = dict(headers or {})
        self.extra = extra


class BadRequest(Problem):
    """The request cannot be understood."""

    status = 400
    code = "bad_request"
    title = "Bad request"
    default_detail = "The request cannot be understood."


class ValidationFailed(BadRequest):
    """The input was understood and is wrong; ``errors`` say where."""

    code = "validation_failed"
    title = "Invalid input"
    default_detail = "Some of the input is wrong; `errors` says where."

    @classmethod
    def at(cls, pointer: str, code: str, detail: str) -> ValidationFailed:
        """Make the error for one wrong place."""
        return cls(errors=[FieldError(pointer, code, detail)])


class Unauthenticated(Problem):
    """No valid credential came with the request."""

    status = 401
    code = "not_authenticated"
    title = "Not authenticated"
    default_detail = "Send an API token as `Authorization: Bearer sy_…`, or log in."

    def __init__(self, detail: str = "", **options: Any) -> None:
        super().__init__(detail, **options)
        self.headers.setdefault("WWW-Authenticate", "Bearer")


class Forbidden(Problem):
    """The caller may know of this and may not do it."""

    status = 403
    code = "forbidden"
    title = "Forbidden"
    default_detail = "You may not do this."


class ScopeRequired(Forbidden):
    """The caller lacks a scope or a role; ``required`` in the answer names it."""

    code = "scope_required"
    title = "Scope required"

    def __init__(self, required: str, **options: Any) -> None:
        super().__init__(f"This needs the scope {required}.", required=required, **options)


class NotFound(Problem):
    """There is no such thing for this caller."""

    status = 404
    code = "not_found"
    title = "Not found"
    default_detail = "There is no such thing here, or you may not see it."


class MethodNotAllowed(Problem):
    """The address exists and does not take this method."""

    status = 405
    code = "method_not_allowed"
    title = "Method not allowed"
    default_detail = "This address does not take this method; `Allow` names those it takes."


class NotAcceptable(Problem):
    """The client accepts none of the formats on offer."""

    status = 406
    code = "not_acceptable"
    title = "Not acceptable"
    default_detail = "The answer is JSON; your Accept header leaves that out."


class Conflict(Problem):
    """The state of things does not allow it now."""

    status = 409
    code = "conflict"
    title = "Conflict"
    default_detail = "The current state does not allow this."


class PreconditionFailed(Problem):
    """``If-Match`` names another version than the current one."""

    status = 412
    code = "precondition_failed"
    title = "Precondition failed"
    default_detail = "It has changed since you read it. Read it again, then repeat with its ETag."


class TooSlow(Problem):
    """The body of the request has not come in time."""

    status = 408
    code = "too_slow"
    title = "Too slow"
    default_detail = "The body did not come in time; send it again."


class TooLarge(Problem):
    """The body is over the limit."""

    status = 413
    code = "too_large"
    title = "Too large"
    default_detail = "The body is larger than this server takes."


class UnsupportedMedia(Problem):
    """The body's type, charset or encoding is not taken."""

    status = 415
    code = "unsupported_media_type"
    title = "Unsupported media type"
    default_detail = "Send the body as application/json in UTF-8, not compressed."


class PreconditionRequired(Problem):
    """``If-Match`` is missing where an edit could overwrite somebody else's."""

    status = 428
    code = "precondition_required"
    title = "Precondition required"
    default_detail = "Send If-Match with the ETag of the version that you mean to change."


class _Later(Problem):
    """An error that passes: ``retry_after`` is the number of seconds to wait."""

    def __init__(self, detail: str = "", *, retry_after: float = 1, **options: Any) -> None:
        super().__init__(detail, **options)
        self.retry_after = retry_after
        self.headers["Retry-After"] = str(max(1, math.ceil(retry_after)))


class TooManyRequests(_Later):
    """A limit was reached; ``limit`` in the answer names it."""

    status = 429
    code = "too_many_requests"
    title = "Too many requests"
    default_detail = "You are over a limit; wait, then try again."


class Unavailable(_Later):
    """Something that is needed is away for the moment."""

    status = 503
    code = "unavailable"
    title = "Unavailable"
    default_detail = "The service cannot answer at the moment; try again shortly."
