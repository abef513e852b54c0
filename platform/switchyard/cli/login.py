"""`switchyard login`: keep address, token and tenant for later commands."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from switchyard.cli import exit_codes
from switchyard.cli.command import SETTINGS, Session, application
from switchyard.cli.connection import forget, store
from switchyard.cli.output import Output, on_terminal

app = application("Store address, token and tenant.")


@app.command("login", context_settings=SETTINGS)
def login(
    url: Annotated[
        str | None, typer.Option("--url", metavar="URL", help="The server's address.")
    ] = None,
    token: Annotated[
        str | None, typer.Option("--token", metavar="TOKEN", help="An API token; - reads stdin.")
    ] = None,
    tenant: Annotated[str | None, typer.Option("--tenant", metavar="SLUG")] = None,
    remove: Annotated[bool, typer.Option("--forget", help="Remove what was stored.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Machine output: JSON on stdout.")] = False,
) -> int:
    """Check address and token with the server, then store them for later commands.

    What is not given is asked for on a terminal. The file is readable by you alone.
    """
    output = Output(json=json)
    if remove:
        output.note("Forgotten." if forget() else "Nothing was stored.")
        return exit_codes.OK
    url = url or _ask("Server's address (https://…): ", "--url")
    token = _token(token)
    with Session(output, url=url, token=token, tenant=tenant) as session:
        found = session.client.me()
        slug = tenant or _only_tenant(session)
        address = session.client.transport.url
    path = store(address, token, slug)
    if json:
        output.data({"url": address, "tenant": slug, "path": str(path), "me": found})
    else:
        where = f"tenant {slug}" if slug else "no tenant chosen (give --tenant to commands)"
        output.note(f"Logged in to {address}, {where}. Stored in {path}.")
    return exit_codes.OK


def _only_tenant(session: Session) -> str | None:
    from switchyard.client.errors import UnusableConnection

    try:
        return session.client.tenant
    except UnusableConnection:
        # An operator, or somebody with several teams: the commands will name one.
        return None


def _token(given: str | None) -> str:
    if given == "-":
        given = sys.stdin.readline()
    elif given is None:
        given = _ask("Token: ", "--token -", hidden=True)
    token = given.strip()
    if not token:
        raise typer.BadParameter("The token is empty.")
    return token


def _ask(question: str, option: str, *, hidden: bool = False) -> str:
    if not on_terminal(sys.stdin):
        raise typer.BadParameter(f"Nobody can be asked here: give {option}.")
    if hidden:
        from getpass import getpass

        return getpass(question)
    sys.stderr.write(question)
    sys.stderr.flush()
    return sys.stdin.readline().strip()
