"""`switchyard status`: is the platform well?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from switchyard.cli import exit_codes
from switchyard.cli.command import Session, application, command

if TYPE_CHECKING:
    from switchyard.client.errors import SwitchyardError

app = application("The state of every component.")

HEALTHY, DEGRADED, DOWN = "healthy", "degraded", "down"
_WORDS = {
    "ok": HEALTHY,
    "up": HEALTHY,
    "ready": HEALTHY,
    "pass": HEALTHY,
    "warn": DEGRADED,
    "fail": DOWN,
    "error": DOWN,
    "unavailable": DOWN,
}
_CODES = {HEALTHY: exit_codes.OK, DEGRADED: exit_codes.DEGRADED, DOWN: exit_codes.DOWN}


@command(app, "status", operator=True)
def status(session: Session) -> int:
    """Show every component; exit 0 healthy, 1 degraded, 2 down.

    Without an operator's token only what the server says to everybody: is it ready.
    """
    from switchyard.client.administration import ready
    from switchyard.client.errors import (
        ApiError,
        ServerError,
        Unavailable,
        UnexpectedAnswer,
        Unreachable,
    )

    transport = session.client.transport
    try:
        try:
            told = session.client.operator.status()
            state = _state(told, DOWN)
        except ApiError as error:
            if error.status not in (401, 403, 404) and not isinstance(error, Unavailable):
                raise
            well, told = ready(transport)
            state = _state(told, HEALTHY) if well else DOWN
    except (Unreachable, UnexpectedAnswer, ServerError) as error:
        # Also a proxy with nothing behind it: its page is no answer of the platform.
        return _down(session, error)
    if session.output.json:
        session.output.data({**told, "status": state})
    else:
        session.output.line(f"{transport.url} is {state}")
        rows = _components(told)
        if rows:
            session.output.table(("COMPONENT", "STATE", "DETAIL"), rows, "")
        elif told.get("detail"):
            session.output.note(str(told["detail"]))
    return _CODES[state]


def _down(session: Session, error: SwitchyardError) -> int:
    if session.output.json:
        session.output.data({"status": DOWN, "detail": str(error)})
    else:
        from switchyard.cli.failures import explain

        session.output.line(f"{session.client.transport.url} is {DOWN}")
        session.output.note(explain(error)[0])
    return exit_codes.DOWN


def _state(told: Mapping[str, Any], unknown: str) -> str:
    word = str(told.get("status", "")).lower()
    state = _WORDS.get(word, word)
    return state if state in _CODES else unknown


def _components(told: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return the components as rows; they come as a list, or as an object by name."""
    found = told.get("components") or told.get("checks") or []
    entries = (
        [{"name": name, **_as_component(value)} for name, value in found.items()]
        if isinstance(found, Mapping)
        else [_as_component(value) for value in found]
    )
    rows = []
    for entry in entries:
        state = str(entry.get("status") or entry.get("state") or "")
        detail = str(entry.get("detail") or entry.get("error") or "")
        rows.append((str(entry.get("name", "")), _WORDS.get(state, state), detail))
    return rows


def _as_component(value: object) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, bool):
        return {"status": "ok" if value else "fail"}
    return {"status": str(value)}
