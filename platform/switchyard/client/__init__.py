"""The client: submit tasks to a Switchyard, watch them, read what became of them.

::

    from switchyard.client import Client

    with Client("https://switchyard.example", "sy_…", "acme") as client:
        task = client.submit("shell.command", {"command": ["ruff", "check", "."]}, queue="critical")
        for line in client.follow_log(task):
            print(line.text)
        print(client.wait(task).status)

Needs no Django: httpx2 is its only dependency.
"""

from __future__ import annotations

from switchyard.client.backoff import Backoff
from switchyard.client.client import Client
from switchyard.client.errors import (
    ApiError,
    BadRequest,
    Conflict,
    Forbidden,
    IdempotencyConflict,
    InputsClosed,
    KeyConflict,
    NotAuthenticated,
    NotFound,
    PreconditionFailed,
    ServerError,
    SwitchyardError,
    TaskFinished,
    TooLarge,
    TooManyRequests,
    Unavailable,
    UnexpectedAnswer,
    Unreachable,
    UnusableConnection,
)
from switchyard.client.models import (
    Artifact,
    Cancelled,
    Event,
    FieldError,
    LogLine,
    Progress,
    Run,
    Task,
    TaskFailure,
    Verdict,
    WaitingFor,
)

__all__ = [
    "ApiError",
    "Artifact",
    "Backoff",
    "BadRequest",
    "Cancelled",
    "Client",
    "Conflict",
    "Event",
    "FieldError",
    "Forbidden",
    "IdempotencyConflict",
    "InputsClosed",
    "KeyConflict",
    "LogLine",
    "NotAuthenticated",
    "NotFound",
    "PreconditionFailed",
    "Progress",
    "Run",
    "ServerError",
    "SwitchyardError",
    "Task",
    "TaskFailure",
    "TaskFinished",
    "TooLarge",
    "TooManyRequests",
    "Unavailable",
    "UnexpectedAnswer",
    "Unreachable",
    "UnusableConnection",
    "Verdict",
    "WaitingFor",
]
