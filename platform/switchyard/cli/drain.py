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
    """Let workers finish what they run and end; another one starts before each is stopped.

    One that is refused (it has gone) keeps no other from it; the exit code is then 1.
    """
    from switchyard.cli.several import answers, as_data
    from switchyard.client.errors import SwitchyardError

    if (worker is None) != everything:
        session.output.note("Name one worker, or all of them by --all.")
        return exit_codes.USAGE
    alive = list(session.client.operator.workers())
    chosen = [each for each in alive if everything or worker in (each.get("id"), each.get("name"))]
    if not chosen:
        session.output.note("There is no such worker; `switchyard workers` lists those that live.")
        return exit_codes.ERROR
    drain_one, code, results = session.client.operator.drain, exit_codes.OK, []
    names = {str(each["id"]): str(each.get("name")) for each in chosen}
    for key, answer in answers(session.output, names, drain_one):
        if isinstance(answer, SwitchyardError):
            code = exit_codes.ERROR
            results.append(as_data(key, answer))
            continue
        results.append(dict(answer))
        if not session.output.json:
            said = "will drain" if answer.get("changed") else "drains already"
            session.output.note(f"{names[key]} {said}.")
    if session.output.json:
        session.output.data({"results": results})
    return code
