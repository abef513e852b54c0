"""What can go wrong in a handler and on its two pipes.

::

    Exception
    ├── TaskError               raised by a handler that knows what went wrong
    ├── HandlerDefinitionError  a @handler(...) that cannot be registered
    └── ProtocolError           bytes from a handler that are no valid message
    BaseException
    └── Cancelled               the run is to stop; `except Exception` does not swallow it
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MESSAGE_CAP = 4000
"""Characters of an error message that are kept as `error.message`; the whole text is in the log."""

CHECKPOINT_CAP = 256 * 1024
"""Bytes that a checkpoint may have as JSON: it is part of the task's row."""


class TaskError(Exception):
    """The task failed for a reason that the handler knows: `code` is stable, `message` is for people.

    `retry=False` forbids another attempt, `True` allows one even where `retry_on` or `never_on` would
    not (never more than `max_retries`), `None` leaves it to them. `detail` is any JSON value.
    """

    def __init__(
        self,
        code: str,
        message: str,
        retry: bool | None = None,
        detail: object = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retry = retry
        self.detail = detail


class HandlerDefinitionError(ValueError):
    """A handler was declared with values that no task type can have."""


class ProtocolError(Exception):
    """A handler wrote what is no message on its pipe; its run fails (`protocol`)."""


class Cancelled(BaseException):
    """The run was asked to stop; `reason` is user_cancelled, timed_out, shutdown or preempted."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason or "cancelled")
        self.reason = reason


def storable(value: Any) -> Any:
    """Return a text, or a JSON value, with a mark for each character that PostgreSQL cannot hold.

    Those are NUL and lone surrogates, which Python has for bytes of a file name that are no UTF-8.
    By hand, because a run that is about to end should not load regular expressions.
    """
    if isinstance(value, str):
        if "\0" not in value and value.encode("utf-8", "ignore").decode() == value:
            return value
        return "".join("\ufffd" if _is_unstorable(each) else each for each in value)
    if isinstance(value, dict):
        return {storable(name): storable(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [storable(each) for each in value]
    return value


def _is_unstorable(character: str) -> bool:
    return character == "\0" or "\ud800" <= character <= "\udfff"
