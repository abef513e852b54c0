"""Where a run happens: the worker process, its queue, its machine and its isolation level."""

from __future__ import annotations

import os
import socket
import uuid
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from django.conf import settings

from workers.sandbox import HandlerIdentity, Level, SandboxError, acquire_identity, detect
from workers.sandbox.identity import may_become_others

WORKSPACE_MODE_SHARED = 0o1733
"""With handler users of their own: each may make a folder, nobody may list or remove another's."""


@dataclass(frozen=True, slots=True)
class Place:
    """What a claim records of its worker."""

    worker: uuid.UUID
    queue: str
    machine: str
    pid: int
    level: Level

    @classmethod
    def of_worker(cls, queue: str) -> Place:
        """Return the place of a worker's main process, which this is."""
        name = os.environ.get("SWITCHYARD_WORKER_ID")
        machine, pid = socket.gethostname(), os.getpid()
        worker = uuid.UUID(name) if name else uuid.uuid5(uuid.NAMESPACE_OID, f"{machine}:{pid}")
        return cls(worker, queue, machine, pid, isolation_level())

    def here(self) -> Place:
        """Return the place of this process, which was forked from that one."""
        return Place(self.worker, self.queue, self.machine, os.getpid(), self.level)


@cache
def isolation_level() -> Level:
    """Return the isolation of this worker's runs: what the operator names, or the best that works.

    Raises:
        SandboxError: nothing at or above the demanded minimum works here.
    """
    asked = settings.SWITCHYARD.isolation
    minimum = Level(settings.SWITCHYARD.isolation_minimum)
    # A named level was tried by the pool manager when it started; trying it costs 40 ms.
    found = detect(minimum).level if asked == "auto" else Level(asked)
    if found is None or found.rank < minimum.rank:
        raise SandboxError(
            f"SWITCHYARD_ISOLATION={asked} is below SWITCHYARD_ISOLATION_MINIMUM={minimum}."
        )
    return found


@cache
def workspace_root() -> Path:
    """Return the folder of all workspaces, made fit for handler users of their own."""
    root: Path = settings.SWITCHYARD.workspace_root
    root = root.absolute()
    root.mkdir(parents=True, exist_ok=True)
    wanted = WORKSPACE_MODE_SHARED if may_become_others() else 0o711
    if root.stat().st_mode & 0o7777 != wanted and root.stat().st_uid == os.geteuid():
        root.chmod(wanted)
    return root


@cache
def handler_users() -> Path | None:
    """Return the folder with this machine's locks of handler users; None where there are none."""
    if not may_become_others():
        return None
    locks: Path = settings.SWITCHYARD.state / "handler-users"
    locks.mkdir(parents=True, exist_ok=True)
    return locks


def handler_identity() -> HandlerIdentity | None:
    """Return a user of its own for this run's handler, where the worker may give it one."""
    locks = handler_users()
    return None if locks is None else acquire_identity(locks)
