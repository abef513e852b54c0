"""`switchyard tokens`: the API tokens of the tenant."""

from __future__ import annotations

from typing import Annotated

import typer

from switchyard.cli import exit_codes
from switchyard.cli.command import Session, application, command
from switchyard.cli.output import table_of
from switchyard.cli.text import printable

app = application("The API tokens of the tenant.")


@command(app, "list")
def list_tokens(session: Session) -> int:
    """List the tokens; their secrets are never shown again."""
    columns = {
        "ID": "id",
        "NAME": "name",
        "PREFIX": "prefix",
        "EXPIRES": "expires_at",
        "LAST USED": "last_used_at",
    }
    empty = "No tokens yet. Make one: switchyard tokens create ci --scope tasks:write"
    table_of(session.output, session.client.tokens.list(), columns, empty)
    return exit_codes.OK


@command(app, "create")
def create(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is for.")],
    scope: Annotated[
        list[str] | None,
        typer.Option("--scope", metavar="S", help="Such as tasks:read; may be repeated."),
    ] = None,
    expires_in: Annotated[
        float | None, typer.Option("--expires-in", metavar="S", help="Seconds that it is valid.")
    ] = None,
) -> int:
    """Make a token and print it, this once; without --scope it may read and submit tasks."""
    scopes = scope or ["tasks:read", "tasks:write"]
    made = session.client.tokens.create(name, scopes, expires_in=expires_in)
    if session.output.json:
        session.output.data(made)
        return exit_codes.OK
    session.output.note("Copy it now; it is not shown again.")
    session.output.line(printable(str(made.get("token", ""))))
    return exit_codes.OK


@command(app, "revoke")
def revoke(
    session: Session,
    identifier: Annotated[str, typer.Argument(metavar="ID", help="The token's id.")],
) -> int:
    """End a token at once."""
    session.client.tokens.revoke(identifier)
    if session.output.json:
        session.output.data({"revoked": identifier})
    else:
        session.output.note(f"{identifier}: revoked")
    return exit_codes.OK
