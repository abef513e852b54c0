"""`switchyard tenants`: the tenants of the platform."""

from __future__ import annotations

from typing import Annotated

import typer

from switchyard.cli import exit_codes
from switchyard.cli.command import Session, application, command
from switchyard.cli.output import table_of

app = application("The tenants of the platform.")


@command(app, "list", operator=True)
def list_tenants(
    session: Session,
    mine: Annotated[
        bool, typer.Option("--mine", help="Those the token belongs to; needs no operator.")
    ] = False,
) -> int:
    """List the tenants of the platform."""
    client = session.client
    found = client.tenants() if mine else client.operator.tenants()
    columns = {"TENANT": "slug", "NAME": "name", "CREATED": "created_at"}
    table_of(session.output, found, columns, "No tenants yet.")
    return exit_codes.OK


@command(app, "create", operator=True)
def create(
    session: Session,
    slug: Annotated[str, typer.Argument(metavar="SLUG", help="Small letters, digits, hyphens.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="The team's name.")],
) -> int:
    """Make a tenant; it has no members yet."""
    made = session.client.operator.create_tenant(slug, name)
    if session.output.json:
        session.output.data(made)
    else:
        session.output.note(f"Tenant {made.get('slug', slug)} made.")
    return exit_codes.OK
