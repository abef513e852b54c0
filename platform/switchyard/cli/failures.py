"""From an exception to one sentence that says what is wrong and what to do, and an exit code."""

from __future__ import annotations

import typer

from switchyard.cli import exit_codes
from switchyard.cli.text import printable
from switchyard.client.errors import (
    ApiError,
    Conflict,
    Forbidden,
    NotAuthenticated,
    NotFound,
    ServerError,
    SwitchyardError,
    TooManyRequests,
    Unreachable,
)

_ADVICE: tuple[tuple[type[SwitchyardError], str], ...] = (
    (
        NotAuthenticated,
        "Log in with `switchyard login`, or set SWITCHYARD_TOKEN to a token that is valid.",
    ),
    (Forbidden, "Use a token that has it."),
    (NotFound, "Check the id, and the tenant that you are in (`switchyard me`)."),
    (
        Unreachable,
        "Check the address (--url, SWITCHYARD_URL) and that the server runs "
        "(`switchyard up` starts one).",
    ),
    (TooManyRequests, "Wait a little, then try again."),
    (ServerError, "Try again; if it stays, tell the platform's operators."),
)


def explain(error: Exception) -> tuple[str, int]:
    """Return the sentence for stderr and the exit code.

    What is no error of ours or of the platform is a bug: the sentence then names the exception.
    """
    if isinstance(error, typer.TyperException):
        return _usage(error), exit_codes.USAGE
    if isinstance(error, typer.Abort):
        return "Nothing was done.", exit_codes.ERROR
    if isinstance(error, SwitchyardError):
        return _told(error), exit_codes.ERROR
    if isinstance(error, OSError):
        return f"{printable(str(error))}.", exit_codes.ERROR
    return (
        f"This is a bug in the command: {type(error).__name__}: {printable(str(error))}. "
        "SWITCHYARD_DEBUG=1 shows where.",
        exit_codes.ERROR,
    )


def _usage(error: typer.TyperException) -> str:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "switchyard"
    message = printable(error.format_message()).strip()
    ends = message if message.endswith((".", "?", ")")) else f"{message}."
    return f"{ends} See `{path} --help`."


def _told(error: SwitchyardError) -> str:
    lines = [printable(str(error))]
    if not isinstance(error, Conflict):
        lines[0] += next((f" {advice}" for kind, advice in _ADVICE if isinstance(error, kind)), "")
    if isinstance(error, ApiError):
        if error.request_id:
            lines[0] += f" (request {printable(error.request_id)})"
        lines += [
            f"  {printable(place.pointer) or 'body'}: {printable(place.detail)}"
            for place in error.errors
            # The sentence already says what its only place says.
            if place.detail != error.detail
        ]
    return "\n".join(lines)
