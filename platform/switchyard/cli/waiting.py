"""Waiting silently for a task's end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from switchyard.cli import exit_codes
from switchyard.cli.command import Session
from switchyard.cli.follow import LEFT, conclusion
from switchyard.cli.text import printable

if TYPE_CHECKING:
    from switchyard.client import Task


def wait_for(session: Session, task: Task | str, timeout: float | None) -> int:
    """Wait until the task has ended or `timeout` seconds are over; print how it is.

    Ctrl-C leaves it running: there is nothing half shown that a question could save.
    """
    name = task if isinstance(task, str) else task.id
    try:
        found = session.client.wait(task, timeout)
    except KeyboardInterrupt:
        session.output.note(LEFT.format(id=name))
        return exit_codes.RUNNING
    if session.output.json:
        session.output.data(found.raw)
        return exit_codes.of_task(found.status)
    if not found.ended:
        session.output.line(printable(f"{found.id} {found.status}"))
        session.output.note(f"It has not ended within {timeout:g} s. {LEFT.format(id=found.id)}")
        return exit_codes.RUNNING
    (first, _), *rest = conclusion(found)
    session.output.line(printable(f"{found.id} {first}"))
    for text, style in rest:
        session.output.note(text, style)
    return exit_codes.of_task(found.status)
