"""What tests ask about processes that are not their own."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def name_of_process(pid: int) -> str:
    """Return what a process is called (`comm`); nothing if it is not there any more."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    return ""


def lives(pid: int) -> bool:
    """Whether a process runs; one that is dead and waits for its parent to notice does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
