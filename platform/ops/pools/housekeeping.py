"""Remove what dead supervisors left on this machine: processes and workspaces.

Both carry their attempt in their name (task and epoch), and are removed only when the database says
that the task is one of ours and that this attempt has been over for a while, or when a worker was killed
while it rehearsed. A machine that cannot
ask removes nothing. (Orphans of a worker that has just died become the pool manager's children and
are killed by its watch at once; here go those that outlived the manager itself.)
"""

from __future__ import annotations

import logging
import os
import time
import uuid
from contextlib import suppress
from pathlib import Path

from tasks.models import Inflight, Task
from workers.sandbox import HandlerIdentity, WorkspaceError, sweep_orphans, wipe_workspace
from workers.sandbox.tree import MARKER
from workers.sandbox.workspace import is_of_no_task

logger = logging.getLogger(__name__)

# A supervisor writes its run's end first and cleans up then: it is given this long.
PATIENCE_SECONDS = 10.0

Attempt = tuple[uuid.UUID, int]


class Housekeeping:
    """The sweeps of one machine; ``workspaces`` is the folder of all runs' folders."""

    def __init__(self, workspaces: Path) -> None:
        self.workspaces = workspaces
        self._over_since: dict[Attempt, float] = {}

    def __call__(self) -> None:
        """End orphaned processes and wipe workspaces of attempts that are over.

        Raises:
            django.db.Error: when the database does not answer; nothing was removed then.
        """
        processes = _marked_processes()
        folders = self._folders()
        over = self._over({*processes, *folders})
        for attempt in over & processes.keys():
            if pids := sweep_orphans(processes[attempt]):
                logger.warning("ended %d orphans of task %s, epoch %d", len(pids), *attempt)
        for attempt in over & folders.keys():
            _wipe(folders[attempt])

    def _over(self, found: set[Attempt]) -> set[Attempt]:
        """Return the attempts of our own tasks, and rehearsals, that have been over for long enough."""
        tasks = {task for task, _ in found}
        known = set(Task.objects.filter(pk__in=tasks).values_list("pk", flat=True)) if tasks else ()
        live = set(
            Inflight.objects.filter(task_id__in=tasks).values_list("task_id", "epoch") if tasks else ()
        )
        now = time.monotonic()
        self._over_since = {
            attempt: self._over_since.get(attempt, now)
            for attempt in found
            if (attempt[0] in known or is_of_no_task(attempt[0])) and attempt not in live
        }
        return {
            attempt for attempt, since in self._over_since.items() if now - since >= PATIENCE_SECONDS
        }

    def _folders(self) -> dict[Attempt, Path]:
        found = {}
        with suppress(OSError):
            for entry in os.scandir(self.workspaces):
                attempt = attempt_of(entry.name)
                if attempt and entry.is_dir(follow_symlinks=False):
                    found[attempt] = Path(entry.path)
        return found


def attempt_of(name: str) -> Attempt | None:
    """Read ``<task>-<epoch>`` (a workspace) or ``<task>:<epoch>`` (a process's marker)."""
    with suppress(ValueError):
        if name[36:37] in ("-", ":"):
            return uuid.UUID(name[:36]), int(name[37:])
    return None


def _marked_processes() -> dict[Attempt, str]:
    """Return the attempts that readable processes of this machine carry, with the marker's text."""
    found = {}
    prefix = f"{MARKER}=".encode()
    for name in os.listdir("/proc") if os.path.isdir("/proc") else ():
        if not name.isdigit():
            continue
        with suppress(OSError):
            for variable in Path("/proc", name, "environ").read_bytes().split(b"\0"):
                text = variable.removeprefix(prefix).decode("utf-8", "replace")
                if variable.startswith(prefix) and (attempt := attempt_of(text)):
                    found[attempt] = text
    return found


def _wipe(path: Path) -> None:
    try:
        owner = path.lstat()
        own = owner.st_uid == os.geteuid()
        wipe_workspace(path, None if own else HandlerIdentity(owner.st_uid, owner.st_gid))
        logger.warning("wiped the workspace %s that a dead supervisor left", path.name)
    except (OSError, WorkspaceError) as error:
        logger.warning("a workspace could not be wiped: %s", error)
