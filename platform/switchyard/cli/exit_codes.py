"""What the command's exit code says; scripts rely on it."""

from __future__ import annotations

OK = 0
"""Done; for a task that was followed or waited for: completed."""
ERROR = 1
"""It could not be done: no connection, refused, not found."""
USAGE = 2
"""The command line is wrong."""
FAILED = 4
"""The task failed."""
RUNNING = 8
"""The task has not ended: the wait timed out, or it was left running."""
CANCELLED = 16
"""The task was cancelled or dropped."""

DEGRADED = 1
"""`status`: some component is not well."""
DOWN = 2
"""`status`: the platform does not work."""

INTERRUPTED = 130
"""Ctrl-C where nothing could be left running (the shell's convention: 128 + SIGINT)."""


def of_task(status: str | None) -> int:
    """Return the exit code for a task in this status."""
    ends = {"completed": OK, "failed": FAILED, "cancelled": CANCELLED, "dropped": CANCELLED}
    return ends.get(status or "", RUNNING)
