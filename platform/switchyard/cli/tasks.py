"""`switchyard tasks`: look at tasks, and act on them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from switchyard.cli import exit_codes
from switchyard.cli.command import Session, application, command
from switchyard.cli.output import age
from switchyard.cli.task_view import show_events, show_lines, show_task
from switchyard.cli.values import time_of

app = application("Look at tasks, and act on them.")

TaskId = Annotated[str, typer.Argument(metavar="ID", help="The task's id.")]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on until the task ends.")]
After = Annotated[int, typer.Option("--after", metavar="SEQ", min=0, help="Only behind event SEQ.")]


def _filter(name: str, meaning: str) -> Any:
    return typer.Option(f"--{name}", metavar=name.rpartition("-")[2].upper(), help=meaning)


@command(app, "list")
def list_tasks(
    session: Session,
    status: Annotated[str | None, _filter("status", "Such as queued,running.")] = None,
    type: Annotated[str | None, _filter("type", "A task type; * matches anything.")] = None,
    queue: Annotated[str | None, _filter("queue", "critical, normal or batch.")] = None,
    label: Annotated[str | None, _filter("label", "name=value.")] = None,
    key: Annotated[str | None, _filter("key", "The key given at submit.")] = None,
    submitted_by: Annotated[str | None, _filter("submitted-by", "Such as token:ci.")] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="Submitted at or after TIME.")
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=1, help="At most N, newest first.")
    ] = 30,
) -> int:
    """List tasks, newest first."""
    found = session.client.tasks(
        limit=limit,
        status=status,
        type=type,
        queue=queue,
        label=label,
        key=key,
        submitted_by=submitted_by,
        created_after=time_of(since, "--since") if since is not None else None,
    )
    tasks = list(found)
    if session.output.json:
        session.output.data([task.raw for task in tasks])
        return exit_codes.OK
    now = datetime.now(UTC)
    rows = [
        (
            task.id,
            task.status,
            task.type,
            task.queue,
            age((now - task.created_at).total_seconds()) if task.created_at else "",
        )
        for task in tasks
    ]
    filtered = any((status, type, queue, label, key, submitted_by, since))
    empty = (
        "No task matches."
        if filtered
        else "No tasks yet. Submit one: switchyard run shell.command -- echo hello"
    )
    session.output.table(("ID", "STATUS", "TYPE", "QUEUE", "AGE"), rows, empty)
    return exit_codes.OK


@command(app, "show")
def show(session: Session, task: TaskId) -> int:
    """Show a task: why it waits, its runs, its end."""
    found = session.client.task(task)
    if session.output.json:
        session.output.data(found.raw)
    else:
        show_task(session.output, found)
    return exit_codes.OK


@command(app, "cancel")
def cancel(
    session: Session,
    tasks: Annotated[list[str], typer.Argument(metavar="ID…", help="One task or more.")],
    reason: Annotated[
        str | None, typer.Option("--reason", metavar="TEXT", help="Kept with the task.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Also what cannot be cancelled (admins).")
    ] = False,
) -> int:
    """Cancel tasks.

    Those that wait never start, those that run are asked to stop. One that is refused keeps no other
    from it; the exit code is then 1.
    """
    from switchyard.cli.several import answers, as_data
    from switchyard.client.errors import SwitchyardError

    client, code, data = session.client, exit_codes.OK, []
    names = {task: task for task in tasks}
    for task, answer in answers(
        session.output, names, lambda task: client.cancel(task, reason=reason, force=force)
    ):
        if isinstance(answer, SwitchyardError):
            code = exit_codes.ERROR
            data.append(as_data(task, answer))
            continue
        data.append({"changed": answer.changed, "task": answer.task.raw})
        if not session.output.json:
            told = "cancelled" if answer.task.status == "cancelled" else "cancel requested"
            session.output.note(f"{task}: {told if answer.changed else 'was already being cancelled'}")
    if session.output.json:
        session.output.data(data)
    return code


@command(app, "retry")
def retry(session: Session, task: TaskId) -> int:
    """Give a task that ended badly a new life."""
    found = session.client.retry(task)
    if session.output.json:
        session.output.data(found.raw)
    else:
        session.output.note(f"{found.id}: {found.status}")
    return exit_codes.OK


@command(app, "logs")
def logs(
    session: Session,
    task: TaskId,
    follow: Follow = False,
    after: After = 0,
    run: Annotated[
        int | None, typer.Option("--run", metavar="N", min=1, help="Only the Nth attempt.")
    ] = None,
    stream: Annotated[
        str | None,
        typer.Option("--stream", metavar="S", help="stdout, stderr, system; commas between."),
    ] = None,
    q: Annotated[
        str | None, typer.Option("--grep", metavar="TEXT", help="Only lines with this text.")
    ] = None,
) -> int:
    """Print a task's output.

    Its stdout goes to stdout, the rest to stderr. With --follow it goes on until the task ends,
    through lost connections, and the exit code is the task's, as for `run`: so one attaches again to
    a task that was left running.
    """
    if follow:
        if run is not None or stream is not None or q is not None:
            raise typer.BadParameter("--follow shows everything: leave out --run, --stream, --grep.")
        from switchyard.cli.follow import follow as follow_task

        found = session.client.task(task)
        return follow_task(session.client, session.output, found, after=after, output_only=True)
    lines = session.client.log(task, after=after or None, run=run, stream=stream, q=q)
    show_lines(session.output, lines)
    return exit_codes.OK


@command(app, "artifacts")
def artifacts(
    session: Session,
    task: TaskId,
    folder: Annotated[
        Path | None,
        typer.Option("--download", metavar="DIR", help="Save them below DIR, the newest of a name."),
    ] = None,
    run: Annotated[
        int | None, typer.Option("--run", metavar="N", min=1, help="Only the Nth attempt's.")
    ] = None,
) -> int:
    """List the files that a task's runs have left, or save them."""
    from switchyard.cli.artifacts import download, list_artifacts

    found = [entry for entry in session.client.artifacts.list(task) if run in (None, entry.run)]
    if folder is None:
        return list_artifacts(session.output, found)
    return download(session.client, session.output, task, found, folder)


@command(app, "events")
def events(session: Session, task: TaskId, follow: Follow = False, after: After = 0) -> int:
    """Print a task's events.

    With --follow until it ends; the exit code is then the task's.
    """
    if not follow:
        show_events(session.output, session.client.events(task, after))
        return exit_codes.OK
    follower = session.client.follow_events(task, after)
    try:
        show_events(session.output, follower)
    except KeyboardInterrupt:
        return exit_codes.RUNNING
    return exit_codes.of_task(follower.status)


@command(app, "wait")
def wait(
    session: Session,
    task: TaskId,
    timeout: Annotated[
        float | None, typer.Option("--timeout", metavar="S", min=0, help="At most S seconds.")
    ] = None,
) -> int:
    """Wait for a task's end.

    Exit: 0 completed, 4 failed, 16 cancelled or dropped, 8 not ended within --timeout.
    """
    from switchyard.cli.waiting import wait_for

    return wait_for(session, task, timeout)
