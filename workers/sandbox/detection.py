"""Which isolation levels work on this machine: tried, never guessed."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from workers.sandbox.inside import landlock
from workers.sandbox.launch import HandlerIdentity, Launch, Level, SandboxError
from workers.sandbox.spawning import spawn
from workers.sandbox.workspace import make_workspace, wipe_workspace

PROBE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Detection:
    """What was found: the highest level that works, and for each one that does not, why.

    `level` is None when not even the required minimum works.
    """

    level: Level | None
    available: Mapping[Level, bool]
    reasons: Mapping[Level, str]
    landlock_abi: int


def detect(
    minimum: Level | None = None,
    identity: HandlerIdentity | None = None,
    base: Path | None = None,
) -> Detection:
    """Start a process at each level, highest first, and see; about 40 ms a level. Worth keeping.

    `base` is where workspaces will be, because a path decides too (default: a temporary folder).
    Raises SandboxError when nothing at or above `minimum` works.
    """
    available: dict[Level, bool] = {}
    reasons: dict[Level, str] = {}
    for level in Level:
        refused = _refused(level, identity, base)
        available[level] = refused is None
        if refused is not None:
            reasons[level] = refused
    best = next((level for level in Level if available[level]), None)
    if minimum is not None and (best is None or best.rank < minimum.rank):
        raise SandboxError(
            f"Isolation level {minimum} is required and does not work here: "
            f"{reasons.get(minimum, 'unknown')}. Allow it on this machine, or lower "
            f"SWITCHYARD_ISOLATION_MINIMUM."
        )
    linux = sys.platform == "linux"
    abi = landlock.abi() if linux else 0
    return Detection(best, available, reasons, abi)


def _refused(level: Level, identity: HandlerIdentity | None, base: Path | None) -> str | None:
    """Why a level does not work here, or None."""
    if sys.platform != "linux" and level is not Level.PROCESS:
        return "it needs Linux"
    with tempfile.TemporaryDirectory(prefix="switchyard-probe-") as temporary:
        home = base or Path(temporary)
        if base is None:
            home.chmod(0o1733)
        name = f"probe-{level}-{Path(temporary).name}"
        workspace = make_workspace(home, name, identity)
        try:
            launch = Launch(
                level=level, workspace=workspace, argv=("/bin/sh", "-c", ":"), identity=identity
            )
            with spawn(launch) as sandboxed:
                ending = sandboxed.wait(PROBE_SECONDS)
        except (OSError, TimeoutError, SandboxError) as error:
            return str(error)
        finally:
            wipe_workspace(workspace, identity)
    if ending.code == 0:
        return None
    return ending.message or f"a shell ended with {ending.code or ending.signal}"
