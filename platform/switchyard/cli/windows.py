"""`switchyard windows`: when the batch work of a tenant or a task type may start."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from switchyard.cli import exit_codes
from switchyard.cli.command import Session, application, command
from switchyard.cli.output import table_of

app = application("When the batch work of a tenant or a task type may start.")

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
SUBJECTS = ("type", "tenant")
_WINDOW = re.compile(r"(?:(?P<days>[a-z,-]+)@)?(?P<start>\d\d:\d\d)-(?P<end>\d\d:\d\d)", re.ASCII)

Subject = Annotated[str, typer.Argument(metavar="type|tenant", help="Whose windows they are.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The task type's name, or the slug.")]
Reason = Annotated[
    str | None, typer.Option("--reason", metavar="TEXT", help="Why an operator changes a tenant.")
]


@command(app, "list", operator=True)
def list_windows(session: Session) -> int:
    """List whose batch work has windows, and whether they are open now."""
    columns = {
        "OF": "subject",
        "NAME": "name",
        "OPEN": "open",
        "UNTIL": "until",
        "ZONE": "zone",
        "WINDOWS": "windows",
    }
    empty = "No windows: batch work may start at any time."
    table_of(session.output, session.client.operator.windows(), columns, empty)
    return exit_codes.OK


@command(app, "set", operator=True)
def set_windows(
    session: Session,
    subject: Subject,
    name: Name,
    windows: Annotated[
        list[str],
        typer.Argument(metavar="[DAYS@]FROM-TO…", help="22:00-06:00, or sat,sun@00:00-24:00."),
    ],
    zone: Annotated[
        str, typer.Option("--zone", metavar="ZONE", help="Whose clock, such as Europe/Berlin.")
    ] = "UTC",
    reason: Reason = None,
) -> int:
    """Let batch work start only in these windows; what runs at a window's end goes on."""
    value = {"zone": zone, "windows": windows_of(windows)}
    return _put(session, subject, name, value, reason)


@command(app, "clear", operator=True)
def clear_windows(session: Session, subject: Subject, name: Name, reason: Reason = None) -> int:
    """Let batch work start at any time again."""
    return _put(session, subject, name, {"windows": []}, reason)


def windows_of(texts: Sequence[str]) -> list[dict[str, Any]]:
    """Return windows as the API has them from `mon-fri@22:00-06:00`; without days it is every day."""
    found = []
    for text in texts:
        match = _WINDOW.fullmatch(text)
        if match is None:
            raise typer.BadParameter(
                f"A window is written 22:00-06:00 or mon-fri@22:00-06:00: {text!r}."
            )
        days = _days_of(match["days"] or "mon-sun")
        found.append({"days": days, "from": match["start"], "to": match["end"]})
    return found


def _days_of(text: str) -> list[str]:
    days: set[str] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        last = last if dash else first
        if not {first, last} <= set(DAYS):
            raise typer.BadParameter(f"Days are {', '.join(DAYS)}, or mon-fri; not {part!r}.")
        start, end = DAYS.index(first), DAYS.index(last)
        # sat-mon goes over the end of the week.
        days |= {DAYS[number % 7] for number in range(start, end + (1 if end >= start else 8))}
    return sorted(days, key=DAYS.index)


def _put(session: Session, subject: str, name: str, value: dict[str, Any], reason: str | None) -> int:
    if subject not in SUBJECTS:
        session.output.note("Say whose windows they are: type or tenant.")
        return exit_codes.USAGE
    kept = session.client.operator.set_windows(subject, name, value, reason=reason)
    if session.output.json:
        session.output.data(kept)
    elif value["windows"]:
        session.output.note(f"{name}: batch tasks start in these windows only, from now on.")
    else:
        session.output.note(f"{name}: batch tasks may start at any time.")
    return exit_codes.OK
