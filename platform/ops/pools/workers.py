"""What a worker process of a pool is: its command, its variables, its time to stop."""

from __future__ import annotations

import json
import os
import sys
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ops.services import Service, write_services
from ops.supervision.programs import Program, Watched

# After the drain, or a grace later where that would make it fail, a run is interrupted and may clean
# up for the grace; then its end is written.
STOP_MARGIN = 10.0
WARM_UP = 30.0
ID_VARIABLE = "SWITCHYARD_WORKER_ID"


def seconds_to_stop(drain: float, cancel_grace: float) -> float:
    """Return how long a worker may take to end, in seconds: see :data:`STOP_MARGIN`."""
    return drain + 2 * cancel_grace + STOP_MARGIN


@dataclass(frozen=True)
class WorkerPlan:
    """One worker process that should run: the ``number``-th of its queue, with so many slots.

    ``generation`` counts how often it was replaced while it ran.
    """

    queue: str
    number: int
    slots: int
    generation: int = 1

    @property
    def place(self) -> str:
        """What it and its successors share, also their log: ``critical-1``."""
        return f"{self.queue}-{self.number}"

    @property
    def name(self) -> str:
        """The short name, also of its heartbeat file: ``critical-1``, then ``critical-1.2``, …"""
        return self.place if self.generation == 1 else f"{self.place}.{self.generation}"


def worker_program(
    what: WorkerPlan,
    *,
    database_url: str,
    services: Iterable[Service],
    announcer: Path | None,
    host: str,
    isolation: str,
    folder: Path,
    logs: Path | None,
    directory: Path,
    stop_seconds: float,
) -> Program:
    """Return how the manager runs one worker process.

    ``services`` are where the platform's own ones listen, which no task may be led to. ``announcer`` is
    the socket of whoever announces for its supervisors (None: they do it themselves).
    ``folder`` holds the heartbeat files; ``logs`` None sends the output where the manager's goes
    (in a container). Every start has an id of its own, by which its runs name their worker.
    """
    # Here, because `up` reads this module too, and has no use for Celery or Django.
    from tasks.announce import RELAY_VARIABLE
    from workers.worker_steps import LEAVE_SIGNAL

    heartbeat = folder / what.name

    def fresh() -> dict[str, str]:
        heartbeat.unlink(missing_ok=True)
        return {ID_VARIABLE: str(uuid.uuid4())}

    environment = {
        **os.environ,
        "SWITCHYARD_ROLE": "worker",
        "DATABASE_URL": database_url,
        # Behind the pooler a worker does not know where PostgreSQL is.
        "SWITCHYARD_EGRESS_DENY": write_services(services),
        # Tried once by the manager; each run would otherwise find it out anew.
        "SWITCHYARD_ISOLATION": isolation,
        "SWITCHYARD_WORKER_FILE": str(heartbeat),
        # Each fork would look up functions of libraries, and make a heap for each thread.
        "LD_BIND_NOW": "1",
        "MALLOC_ARENA_MAX": "1",
        **({RELAY_VARIABLE: str(announcer)} if announcer else {}),
    }
    return Program(
        name=what.name,
        argv=(
            *(sys.executable, "-m", "workers", "worker"),
            *("-Q", what.queue, "-n", f"{what.name}@{host}", "--concurrency", str(what.slots)),
            *("--without-gossip", "--without-mingle", "--without-heartbeat"),
        ),
        environment=environment,
        directory=directory,
        log=logs / f"{what.place}.log" if logs else None,
        fresh=fresh,
        grace=stop_seconds,
        leave_signal=LEAVE_SIGNAL,
        heartbeat=heartbeat,
        warm_up=WARM_UP,
    )


@dataclass(frozen=True)
class Pulse:
    """What one live worker process last said about itself.

    ``dead_children``: number, pid and exit code of supervisors that ended badly, the newest last.
    """

    worker_id: uuid.UUID
    plan: WorkerPlan
    pid: int
    busy: int
    draining: bool
    dead_children: tuple[tuple[int, int, int], ...] = ()


def pulse(what: WorkerPlan, watched: Watched) -> Pulse | None:
    """Read a worker's heartbeat file; None while it is not up (or the file is a predecessor's).

    An empty one is of a worker that lives on a full disk: a predecessor's is removed at its start.
    """
    path, pid = watched.program.heartbeat, watched.pid
    if path is None or pid is None:
        return None
    try:
        text = path.read_text(encoding="utf-8")
        told: dict[str, Any] = json.loads(text) if text else {"pid": pid}
    except (OSError, ValueError):
        return None
    if told.get("pid") != pid:
        return None
    return Pulse(
        worker_id=uuid.UUID(watched.fresh[ID_VARIABLE]),
        plan=what,
        pid=pid,
        busy=int(told.get("busy", 0)),
        draining=watched.stopping or told.get("draining_since") is not None,
        dead_children=tuple((number, pid, code) for number, pid, code in told.get("dead_children", ())),
    )
