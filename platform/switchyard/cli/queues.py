"""`switchyard queues`: what waits and runs in each queue."""

from __future__ import annotations

from switchyard.cli import exit_codes
from switchyard.cli.command import Session, application, command
from switchyard.cli.output import table_of

app = application("What waits and runs in each queue.")


@command(app, "queues", operator=True)
def queues(session: Session) -> int:
    """List the queues with their counts."""
    columns = {
        "QUEUE": "name",
        "READY": "ready",
        "PARKED": "parked",
        "OFF-PEAK": "off_peak",
        "DISPATCHED": "dispatched",
        "RUNNING": "running",
        "OLDEST WAIT": "oldest_wait",
    }
    table_of(session.output, session.client.operator.queues(), columns, "No queues.")
    return exit_codes.OK
