"""`switchyard drain`: replace workers without losing work or capacity."""

from __future__ import annotations

from typing import Annotated

import typer

from switchyard.cli import exit_codes
from switchyard.cli.command import Session, application, command

app = application("Replace workers without losing work or capacity.")


@command(app, "drain", operator=True)
def drain(
    session: Session,
    worker: Annotated[
        str | None, typer.Argument(metavar="[WORKER]", help="A name or id of `switchyard workers`.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All workers, one after another: a rolling restart.")
    ] = False,
) -> int:
    """Let workers finish what they run and end; another one starts before each is stopped."""
    if (worker is None) != everything:
        session.output.note("Name one worker, or all of them by --all.")
        return exit_codes.USAGE
    alive = list(session.client.operator.workers())
    chosen = [each for each in alive if everything or worker in (each.get("id"), each.get("name"))]
    if not chosen:
        session.output.note("There is no such worker; `switchyard workers` lists those that live.")
        return exit_codes.ERROR
    answers = [session.client.operator.drain(str(each["id"])) for each in chosen]
    if session.output.json:
        session.output.data({"results": answers})
        return exit_codes.OK
    for each, answer in zip(chosen, answers, strict=True):
        said = "will drain" if answer.get("changed") else "drains already"
        session.output.note(f"{each.get('name')} {said}.")
    return exit_codes.OK
