"""Which machine this is, and how well it can shut handlers in."""

from __future__ import annotations

import os
import socket
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ops.pools.records import Machine
from workers.sandbox import Level, SandboxError, detect


def this_machine(*, isolation: str, minimum: str, workspaces: Path) -> Machine:
    """Describe this machine; tries the isolation levels that may be used.

    Raises:
        SandboxError: when nothing at or above the minimum works here.
    """
    lowest = Level(minimum)
    found = detect(minimum=lowest, base=workspaces)
    level = found.level
    if isolation != "auto":
        level = Level(isolation)
        if level.rank < lowest.rank:
            raise SandboxError(
                f"SWITCHYARD_ISOLATION={isolation} is below SWITCHYARD_ISOLATION_MINIMUM={minimum}."
            )
        if not found.available.get(level):
            why = found.reasons.get(level, "unknown reason")
            raise SandboxError(f"Isolation {isolation} does not work on this machine: {why}")
    return Machine(host=socket.gethostname(), isolation=str(level), version=installed_version())


def usable_cores() -> int:
    """Return the processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def installed_version() -> str:
    """Return the version of this Switchyard."""
    try:
        return version("switchyard")
    except PackageNotFoundError:
        return "0"
