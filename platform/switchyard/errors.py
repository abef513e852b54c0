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
