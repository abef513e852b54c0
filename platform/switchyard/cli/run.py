"""`switchyard run`: submit a task and follow it to its end."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from switchyard.cli import exit_codes
from switchyard.cli.command import Session, application, command
from switchyard.cli.output import on_terminal
from switchyard.cli.terminal import Screen
from switchyard.cli.text import printable
from switchyard.cli.values import inputs_of, labels_of, params_of, source_of, time_of

if TYPE_CHECKING:
    from pathlib import Path

    from switchyard.client import Task

app = application("Submit a task.")

Flag = typer.Option


@command(app, "run")
def run(
    session: Session,
    type: Annotated[str, typer.Argument(metavar="TYPE", help="Such as shell.command.")],
    argv: Annotated[
        list[str] | None,
        typer.Argument(metavar="[--] [COMMAND…]", help="What shell.command runs."),
    ] = None,
    param: Annotated[
        list[str] | None,
        Flag("-p", "--param", metavar="NAME=VALUE", help="A param: JSON or text; dots nest."),
    ] = None,
    params: Annotated[
        str | None, Flag("--params", metavar="FILE", help="All params as JSON; - is stdin.")
    ] = None,
    source: Annotated[
        str | None, Flag("--source", metavar="URL[@REF]", help="A git repository to run in.")
    ] = None,
    input: Annotated[
        list[str] | None,
        Flag("--input", metavar="NAME=PATH", help="A file to upload: inputs/NAME in the run."),
    ] = None,
    queue: Annotated[str | None, Flag("--queue", metavar="Q", help="critical, normal or batch.")] = None,
    priority: Annotated[
        int | None, Flag("--priority", metavar="N", help="-100 to 100, higher first.")
    ] = None,
    follow: Annotated[bool, Flag("--follow", help="Show its output as it comes (default).")] = False,
    wait: Annotated[bool, Flag("--wait", help="Wait silently, then tell the end.")] = False,
    detach: Annotated[bool, Flag("--detach", help="Print its id and return at once.")] = False,
    timeout: Annotated[
        float | None,
        Flag("--timeout", metavar="S", min=0, help="With --wait: at most S seconds (exit 8)."),
    ] = None,
    label: Annotated[
        list[str] | None, Flag("--label", metavar="K=V", help="A label; may be repeated.")
    ] = None,
    idempotency_key: Annotated[
        str | None,
        Flag("--idempotency-key", metavar="K", help="The same key again is the same task."),
    ] = None,
    key: Annotated[
        str | None, Flag("--key", metavar="K", help="At most one active task per key.")
    ] = None,
    secret: Annotated[
        list[str] | None, Flag("--secret", metavar="NAME", help="A secret that it may use.")
    ] = None,
    time_limit: Annotated[
        float | None, Flag("--time-limit", metavar="S", help="Seconds that it may run.")
    ] = None,
    depends_on: Annotated[
        list[str] | None,
        Flag("--depends-on", metavar="ID", help="Start when that task has completed."),
    ] = None,
    at: Annotated[
        str | None, Flag("--at", metavar="TIME", help="Not before: RFC 3339, or +90s, +10m, +2h.")
    ] = None,
    max_retries: Annotated[
        int | None, Flag("--max-retries", metavar="N", help="Further attempts after failures.")
    ] = None,
    idempotent: Annotated[
        bool | None,
        Flag("--idempotent/--no-idempotent", help="May it be run again after a lost worker?"),
    ] = None,
    preemptible: Annotated[
        bool | None,
        Flag("--preemptible/--no-preemptible", help="May it be stopped for critical work (batch)?"),
    ] = None,
    dry_run: Annotated[
        bool, Flag("--dry-run", help="Store nothing; say whether it would start or wait.")
    ] = False,
) -> int:
    """Submit a task and follow it to its end.

    switchyard run shell.command --queue critical -- ruff check .

    Without --wait or --detach the task is followed, on a terminal and in a pipe. Its stdout goes to
    stdout, everything else to stderr. Exit: 0 completed, 4 failed, 8 still running, 16 cancelled or
    dropped, 1 error, 2 usage.
    """
    _check(follow=follow, wait=wait, detach=detach, dry_run=dry_run, timeout=timeout)
    given: dict[str, Any] = params_of(param or (), params)
    if argv:
        given["command"] = list(argv)
    if source is not None:
        given["source"] = source_of(source)
    options: dict[str, Any] = {
        "queue": queue,
        "priority": priority,
        "labels": labels_of(label or ()),
        "key": key,
        "secrets": secret or (),
        "time_limit": time_limit,
        "depends_on": depends_on or (),
        "scheduled_for": time_of(at) if at is not None else None,
        "max_retries": max_retries,
        "idempotent": idempotent,
        "preemptible": preemptible,
    }
    uploads = inputs_of(input or ())
    if dry_run:
        inputs = {"inputs": sorted(uploads)} if uploads else {}
        return _dry_run(session, type, given, {**options, **inputs})
    options["idempotency_key"] = idempotency_key
    if uploads:
        task = _submit_with(session, type, given, uploads, options)
    else:
        task = session.client.submit(type, given, **options)
    if detach:
        if session.output.json:
            session.output.data(task.raw)
        else:
            session.output.line(printable(task.id))
        return exit_codes.OK
    if wait:
        from switchyard.cli.waiting import wait_for

        return wait_for(session, task, timeout)
    return _follow(session, task)


def _check(*, follow: bool, wait: bool, detach: bool, dry_run: bool, timeout: float | None) -> None:
    if follow + wait + detach + dry_run > 1:
        raise typer.BadParameter("Use one of --follow, --wait, --detach and --dry-run.")
    if timeout is not None and not wait:
        raise typer.BadParameter("--timeout needs --wait.")


def _submit_with(
    session: Session,
    type: str,
    params: dict[str, Any],
    uploads: dict[str, Path],
    options: dict[str, Any],
) -> Task:
    """Submit a task with its inputs; on a terminal one sees how far each upload is."""
    sizes = {name: path.stat().st_size for name, path in uploads.items()}
    with Screen() as screen:

        def show(name: str, sent: int) -> None:
            screen.progress(100 * sent / max(1, sizes[name]), f"uploading {name}")

        return session.client.submit(type, params, uploads=uploads, on_upload=show, **options)


def _follow(session: Session, task: Task) -> int:
    from switchyard.cli.follow import follow

    if not session.output.json:
        session.output.note(f"Task {task.id} ({task.type}, {task.queue})")
        if task.waiting_for is not None and task.waiting_for.reason != "dispatch":
            why = task.waiting_for.detail or task.waiting_for.reason
            session.output.note(f"· waits: {why}")
        if task.links.get("html") and on_terminal(sys.stderr):
            session.output.note(f"  {task.links['html']}")
    return follow(session.client, session.output, task)


def _dry_run(session: Session, type: str, params: dict[str, Any], options: dict[str, Any]) -> int:
    verdict = session.client.try_submit(type, params, **options)
    if session.output.json:
        session.output.data(verdict.raw)
        return exit_codes.OK
    waiting = verdict.waiting_for
    session.output.record(
        [
            ("would", verdict.would),
            ("because", (waiting.detail or waiting.reason) if waiting else None),
            ("position", verdict.position),
            ("estimated start", verdict.estimated_start),
        ]
    )
    return exit_codes.OK
