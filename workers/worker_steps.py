"""What a worker's main process does besides consuming: heartbeat file, drain flag, hardening.

For whoever writes code that runs in a pool's child, this is the state it starts in:

* SIGTERM, SIGHUP, SIGQUIT and SIGUSR1 raise (SystemExit, the last SoftTimeLimitExceeded) at any
  bytecode, even inside a COMMIT; SIGINT is ignored. A supervisor installs its own handler for
  SIGTERM first. Restoring the old one afterwards is good manners; with our pool, forgetting it
  costs nothing.
* A warm shutdown sends children no signal: `draining_since` tells them. A SIGTERM reaches a child
  only when somebody signals the whole process group, or the child itself.
* After SIGUSR2 (`LEAVE_SIGNAL`) the main process takes nothing new and ends with its last task, however
  long that runs: no drain begins, so children notice nothing.
* The parent's death is a SIGKILL for the child (PDEATHSIG), but not for the child's own children.
* The process is undumpable, inherited from the parent: nobody of the same user reads its memory or
  environment, and its files in /proc belong to root. An exec makes the new program dumpable again.
* No database connection is open, nor any of the broker's, nor a sibling's pipe; only where the fork
  server has just died, and the main process forked by itself, are the last two, and exec closes them.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import signal
import struct
import sys
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any

from celery import Celery, bootsteps, signals
from celery.exceptions import ImproperlyConfigured
from celery.platforms import EX_OK
from celery.utils.log import get_logger
from celery.worker import state

from workers.broker import dropped
from workers.celery_settings import POOLS, SYSTEM_QUEUE

__all__ = ("LEAVE_SIGNAL", "HeartbeatFile", "QueueGuard", "draining_since", "install")

logger = get_logger(__name__)

#: Environment variable with the path of this worker's heartbeat file; no file without it.
FILE_VARIABLE = "SWITCHYARD_WORKER_FILE"

#: Tells a worker that its pool shrinks. SIGTERM says that the machine stops, and sets runs a time.
LEAVE_SIGNAL = signal.SIGUSR2

#: Seconds between two writes.
BEAT_EVERY = 1.0

#: linux/prctl.h
PR_SET_DUMPABLE = 4

#: Children that did not end well are told in the heartbeat file: so many of the newest.
DEAD_CHILDREN_TOLD = 100

#: (number since the start, process id, exit code as billiard gives it: negative is a signal)
_dead_children: deque[tuple[int, int, int]] = deque(maxlen=DEAD_CHILDREN_TOLD)

#: One double, shared by the worker and every child it forks: when the drain began (monotonic), or
#: 0.
_drain = mmap.mmap(-1, 8)


def draining_since() -> float | None:
    """When this worker was told to stop, as `time.monotonic()` of this machine; None while it is not.

    Answers in the main process and in every child, without a system call.
    """
    (at,) = struct.unpack("d", _drain[:8])
    return at or None


def install(app: Celery) -> None:
    """Give the app's workers the steps and hooks of this module."""
    app.steps["worker"].update({QueueGuard, HeartbeatFile})
    signals.celeryd_init.connect(make_undumpable, weak=False, dispatch_uid=f"{__name__}.dump")
    signals.celeryd_init.connect(leave_on_signal, weak=False, dispatch_uid=f"{__name__}.leave")
    signals.worker_shutting_down.connect(begin_drain, weak=False, dispatch_uid=f"{__name__}.drain")
    signals.worker_before_create_process.connect(
        close_database, weak=False, dispatch_uid=f"{__name__}.database"
    )


def make_undumpable(**_signal: Any) -> None:
    """Close the main process's memory and /proc files to other processes of the same user (Linux).

    A handler at isolation level `process` runs as the same user and could otherwise read the
    broker's and database's passwords. Children inherit it.
    """
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def leave_on_signal(**_signal: Any) -> None:
    """Begin a warm shutdown at `LEAVE_SIGNAL`, which waits for running tasks, without a drain."""

    def leave(*_arguments: Any) -> None:
        state.should_stop = EX_OK  # type: ignore[assignment]

    signal.signal(LEAVE_SIGNAL, leave)


def begin_drain(**_signal: Any) -> None:
    """Remember when the shutdown began; a second signal does not move it."""
    if draining_since() is None:
        _drain[:8] = struct.pack("d", time.monotonic())


def forget_drain() -> None:
    """Take the shutdown back, in this process and its children; for tests."""
    _drain[:8] = bytes(8)


def note_dead_child(pid: int, code: int) -> None:
    """Remember a child that ended badly: its machine's pool manager gives its run up at once."""
    number = _dead_children[-1][0] + 1 if _dead_children else 1
    _dead_children.append((number, pid, code))


def close_database(**_signal: Any) -> None:
    """Close connections of the parent before a fork: two processes would speak on one socket."""
    if "django.db" not in sys.modules:
        return
    from django.db import connections

    for connection in connections.all(initialized_only=True):
        if connection.connection is not None:
            logger.warning(
                "The worker's main process had a database connection open; closed before the fork."
            )
            connection.close()


class QueueGuard(bootsteps.Step):
    """Refuses to start a worker on queues that its kind must not serve.

    Tenants' work runs in one-shot children only, on one pool's queue; the platform's own tasks run
    only where children are kept. Raises `ImproperlyConfigured`.
    """

    def create(self, parent: Any) -> None:
        """Check the queues chosen with -Q against the kind of worker."""
        queues = set(parent.app.amqp.queues.consume_from)
        one_shot = parent.max_tasks_per_child == 1
        if one_shot and (len(queues) != 1 or not queues <= set(POOLS)):
            raise ImproperlyConfigured(
                f"A pool's worker serves one queue: start it with -Q {', -Q '.join(POOLS)}, "
                f"not {', '.join(sorted(queues))}."
            )
        if not one_shot and queues != {SYSTEM_QUEUE}:
            raise ImproperlyConfigured(
                f"The system worker serves -Q {SYSTEM_QUEUE} alone, not {', '.join(sorted(queues))}: "
                "tenants' work needs a fresh child for each task."
            )


class HeartbeatFile(bootsteps.StartStopStep):
    """Writes `SWITCHYARD_WORKER_FILE` every second from the event loop, so a loop that hangs shows.

    One JSON object, replaced atomically: `pid`, `hostname`, `queues`, `started_at` and `at`
    (seconds since 1970), `monotonic` (the same moment by this machine's monotonic clock), `tick`
    (writes so far), `slots` (tasks that may run at once), `ready` (children that
    are up, perhaps a spare one among them), `busy`
    (tasks running), `connected` (to the broker), `draining_since` (monotonic, or null), `dropped`
    (messages refused, by reason), `dead_children` (number, pid and exit code of children that ended
    badly, the newest last). The file is removed when the worker has stopped.

    On a full disk only the file's time changes, and what it said last stays; a worker that starts on
    one has an empty file. Whoever watches it sees a loop that turns, and kills nobody.

    A step of the worker, not of its consumer: Celery 5.7 cancels timers of the consumer's steps at
    every reconnect, and these must go on.
    """

    requires = ("celery.worker.components:Pool",)

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        path = os.environ.get(FILE_VARIABLE)
        self.path = Path(path) if path else None
        self.tick = 0
        self.started_at = time.time()
        self.untold = False
        parent.heartbeat_file = self

    def include_if(self, parent: Any) -> bool:
        """Only with a path and an event loop to write from."""
        return self.path is not None and bool(parent.use_eventloop)

    def start(self, parent: Any) -> None:
        """Write the first beat and arm the timer, which also runs while the pool drains."""
        self.beat(parent)
        parent.hub.call_repeatedly(BEAT_EVERY, self.beat, parent)
        signals.worker_shutdown.connect(self.remove, weak=False, dispatch_uid=f"{__name__}.file")

    def stop(self, parent: Any) -> None:
        """Keep beating: the pool's running tasks are waited for after this."""

    terminate = stop

    def beat(self, parent: Any) -> None:
        """Write the file once, or only touch it where the disk takes nothing; that is logged once."""
        if self.path is None:
            return
        self.tick += 1
        fresh = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            fresh.write_text(json.dumps(self.facts(parent)), encoding="utf-8")
            fresh.replace(self.path)
            self.untold = False
        except OSError as error:
            with suppress(OSError):
                fresh.unlink(missing_ok=True)
            # Not written over in place: a reader of half a file would take the worker for gone.
            with suppress(OSError):
                self.path.touch()
            if not self.untold:
                logger.warning("The heartbeat file %s could not be written: %s", self.path, error)
            self.untold = True

    def facts(self, parent: Any) -> dict[str, Any]:
        """What the file says, from the worker's own books."""
        pool = getattr(parent.pool, "_pool", None)
        consumer = getattr(parent, "consumer", None)
        connection = getattr(consumer, "connection", None)
        return {
            "pid": os.getpid(),
            "hostname": parent.hostname,
            "queues": sorted(parent.app.amqp.queues.consume_from),
            "started_at": self.started_at,
            "at": time.time(),
            "monotonic": time.monotonic(),
            "tick": self.tick,
            "slots": parent.concurrency,
            "ready": len(pool._all_inqueues) if pool is not None else 0,
            "busy": len(state.active_requests),
            "connected": bool(connection is not None and connection.connected),
            "draining_since": draining_since(),
            "dropped": dict(dropped),
            "dead_children": list(_dead_children),
        }

    def remove(self, **_signal: Any) -> None:
        """The worker has stopped: leave no file that looks like a hanging one."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
