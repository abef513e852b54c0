"""`switchyard routes`: the operators' rules for which queue a task goes to."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from switchyard.cli import exit_codes
from switchyard.cli.command import Session, application, command
from switchyard.cli.output import table_of
from switchyard.cli.values import labels_of

app = application("The operators' rules for which queue a task goes to; the first match decides.")


@command(app, "list", operator=True)
def list_routes(session: Session) -> int:
    """List the rules in the order in which they are asked."""
    columns = {"RULE": "name", "POSITION": "position", "QUEUE": "queue", "MATCH": "match", "BY": "by"}
    empty = "No rules: a task goes to the queue it asks for, or its type's."
    table_of(session.output, session.client.operator.routes(), columns, empty)
    return exit_codes.OK


@command(app, "set", operator=True)
def set_route(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Small letters, digits, hyphens.")],
    queue: Annotated[str, typer.Argument(metavar="QUEUE", help="critical, normal or batch.")],
    type: Annotated[
        str | None, typer.Option("--type", metavar="T", help="Of this type; * is any characters.")
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option("--label", metavar="K=V", help="With this label; may be repeated, * too."),
    ] = None,
    of: Annotated[str | None, typer.Option("--of", metavar="SLUG", help="Of this tenant.")] = None,
    longer_than: Annotated[
        float | None, typer.Option("--longer-than", metavar="S", help="Estimated to take more seconds.")
    ] = None,
    shorter_than: Annotated[
        float | None, typer.Option("--shorter-than", metavar="S", help="Estimated to take fewer.")
    ] = None,
    position: Annotated[
        int | None, typer.Option("--position", metavar="N", help="Lower ones are asked first.")
    ] = None,
) -> int:
    """Make a rule, or replace all of it; `--type '*'` alone is every task."""
    match: dict[str, Any] = {
        "type": type,
        "labels": labels_of(label or ()) or None,
        "tenant": of,
        "estimated_seconds_over": longer_than,
        "estimated_seconds_under": shorter_than,
    }
    asked = {member: value for member, value in match.items() if value is not None}
    made = session.client.operator.set_route(name, match=asked, queue=queue, position=position)
    if session.output.json:
        session.output.data(made)
    else:
        session.output.note(f"{name}: matching tasks go to {made.get('queue', queue)} from now on.")
    return exit_codes.OK


@command(app, "delete", operator=True)
def delete_route(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of `switchyard routes list`.")],
) -> int:
    """Delete a rule; tasks stay in the queues they are in."""
    session.client.operator.delete_route(name)
    if session.output.json:
        session.output.data({"deleted": name})
    else:
        session.output.note(f"{name}: deleted")
    return exit_codes.OK
