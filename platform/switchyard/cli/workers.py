"""`switchyard workers`: who does the work."""

from __future__ import annotations

from switchyard.cli import exit_codes
from switchyard.cli.command import Session, application, command
from switchyard.cli.output import table_of

app = application("The workers that are alive.")


@command(app, "workers", operator=True)
def workers(session: Session) -> int:
    """List the workers that are alive."""
    columns = {
        "WORKER": "name",
        "QUEUE": "queue",
        "STATUS": "status",
        "BUSY": "busy",
        "SLOTS": "slots",
        "ISOLATION": "isolation",
    }
    empty = "No worker is alive: tasks will wait. `switchyard up` starts some."
    table_of(session.output, session.client.operator.workers(), columns, empty)
    return exit_codes.OK
