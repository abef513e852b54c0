"""Everything that the client raises.

::

    SwitchyardError
    ├── UnusableConnection     an address or token that cannot be used; nothing was sent
    ├── Unreachable            no answer: refused, cut off or too slow, also when tried again
    ├── UnexpectedAnswer       an answer, but not one of Switchyard's API
    └── ApiError               the platform said no: status, code, detail, errors, request_id
        ├── BadRequest         400, 413, 415, 422: `errors` says where
        │   └── TooLarge       413
        ├── NotAuthenticated   401
        ├── Forbidden          403
        ├── NotFound           404  also what belongs to another tenant
        ├── Conflict           409
        │   ├── KeyConflict          another task with this key has not ended: `task`
        │   ├── TaskFinished         nothing can be changed any more
        │   ├── InputsClosed         the task was let go: its inputs are fixed
        │   └── IdempotencyConflict  the Idempotency-Key was used for another request
        ├── PreconditionFailed 412, 428
        ├── TooManyRequests    429  `limit`, `retry_after`
        └── ServerError        500 and above
            └── Unavailable    502, 503, 504  `retry_after`

The bodies are RFC 9457 (`application/problem+json`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from switchyard.client.models import FieldError


class SwitchyardError(Exception):
    """Anything that this client raises; the text is one sentence for people."""


class UnusableConnection(SwitchyardError):
    """The address or the token cannot be used as it is; nothing was sent."""


class Unreachable(SwitchyardError):
    """No answer came from the platform."""


class UnexpectedAnswer(SwitchyardError):
    """Something answered that is not Switchyard's API, or speaks another version of it."""


class ApiError(SwitchyardError):
    """The platform refused the request.

    `code` is stable and may be compared, `detail` is a sentence for people, `errors` name the wrong
    places of the input, `request_id` finds the request in the server's log, `retry_after` is a number
    of seconds (None where the server did not say), `members` are all members of the answer.
    """

    def __init__(
        self,
        detail: str,
        *,
        status: int,
        code: str = "",
        title: str = "",
        request_id: str = "",
        errors: Sequence[FieldError] = (),
        retry_after: float | None = None,
        members: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.status = status
        self.code = code
        self.title = title
        self.request_id = request_id
        self.errors = tuple(errors)
        self.retry_after = retry_after
        self.members = dict(members or {})


class BadRequest(ApiError):
    """The request is wrong; `errors` says where."""


class TooLarge(BadRequest):
    """The body is over the server's limit: upload the large part as an input instead."""


class NotAuthenticated(ApiError):
    """The token is missing, unknown, expired or revoked (`code` tells the last two)."""


class Forbidden(ApiError):
    """The token may not do this; `detail` names the scope or role that is needed."""


class NotFound(ApiError):
    """There is no such thing for this token."""


class Conflict(ApiError):
    """The state of things does not allow it now."""


class KeyConflict(Conflict):
    """Another task with this key has not ended; `task` is its id."""

    @property
    def task(self) -> str:
        """The id of the task that holds the key."""
        return str(self.members.get("task", ""))


class TaskFinished(Conflict):
    """The task has ended: nothing can be changed any more."""


class InputsClosed(Conflict):
    """The task was let go: it takes no inputs any more."""


class IdempotencyConflict(Conflict):
    """The Idempotency-Key was used for another request within the last 24 hours."""


class PreconditionFailed(ApiError):
    """It has changed since it was read, or the version was not named."""


class TooManyRequests(ApiError):
    """A limit was reached."""

    @property
    def limit(self) -> str:
        """The limit's name, such as `queues.critical.queued`."""
        return str(self.members.get("limit", ""))


class ServerError(ApiError):
    """The platform failed; it was not the request's fault."""


class Unavailable(ServerError):
    """The platform cannot answer for the moment."""


_BY_CODE: dict[str, type[ApiError]] = {
    "key_conflict": KeyConflict,
    "task_finished": TaskFinished,
    "inputs_closed": InputsClosed,
    "idempotency_conflict": IdempotencyConflict,
}
_BY_STATUS: dict[int, type[ApiError]] = {
    401: NotAuthenticated,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    412: PreconditionFailed,
    413: TooLarge,
    428: PreconditionFailed,
    429: TooManyRequests,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
}


def error_of(status: int, members: Mapping[str, Any], retry_after: float | None) -> ApiError:
    """Return the error for a problem document; `members` may be empty (a proxy's own answer)."""
    code = str(members.get("code") or "")
    kind = _BY_CODE.get(code) or _BY_STATUS.get(status)
    if kind is None:
        kind = ServerError if status >= 500 else BadRequest if status in (400, 415, 422) else ApiError
    title = str(members.get("title") or "")
    detail = str(members.get("detail") or title or f"The server answered {status}.")
    places = members.get("errors")
    return kind(
        detail,
        status=status,
        code=code,
        title=title,
        request_id=str(members.get("instance") or ""),
        errors=[FieldError.of(place) for place in places] if isinstance(places, list) else [],
        retry_after=retry_after,
        members=members,
    )


def is_passing(error: SwitchyardError) -> bool:
    """Return whether trying again later may help: no answer, 429, or a failure of the server."""
    return isinstance(error, Unreachable | TooManyRequests | ServerError)
