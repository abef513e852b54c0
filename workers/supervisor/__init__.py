"""The supervisor: the Celery prefork child that guards exactly one run.

==========  ==================================================================
place       where this process is: worker, queue, machine, isolation level
guard       the run, step by step
watch       the loop that watches its handler: pipes, clock, lease, requests to stop
limits      what the run may use
meter       what it uses, and which limit it has passed
files       inputs into the workspace, artifacts out of it
lease       keeping the claim alive, and dying in time when that fails
output      bytes of the handler's pipes to numbered lines, capped and masked
storing     what the run says into the database, also through an outage
verdict     what the handler's end means: an Outcome (plain rules)
rehearsal   what a supervisor does, done before the first one is forked
==========  ==================================================================

Steps: claim → workspace → inputs → source checkout → handler in its sandbox → artifacts → end written →
workspace wiped. Each has a fault point.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import structlog
from celery import signals
from django.conf import settings
from django.db import DatabaseError, connection, connections

from tasks import announce, fault_points
from tasks.services.claim import claim
from workers.registry import handler_modules
from workers.sandbox import Level
from workers.sandbox.handler_server import (
    close_servers,
    keep_servers_running,
    start_servers,
    start_wall_server,
)
from workers.sandbox.paths import find_all
from workers.supervisor.guard import guard
from workers.supervisor.guard import log as guards_log
from workers.supervisor.place import Place, handler_users, isolation_level, workspace_root
from workers.supervisor.rehearsal import rehearse

__all__ = ["supervise"]

log = structlog.get_logger(__name__)


_workers_place: Place | None = None
"""That of the worker's main process."""


@signals.worker_init.connect(weak=False, dispatch_uid=__name__)
def warm_up(sender: Any, **_signal: Any) -> None:
    """Do once in the worker's main process what each child would do again for its run.

    A child copies every page that it touches, of what is here already as well: so it is little that is
    to be touched at all.
    """
    global _workers_place
    queue, *_ = sender.app.amqp.queues.consume_from  # more are refused (`worker_steps.QueueGuard`)
    _workers_place = Place.of_worker(queue)
    announce.warm_up()
    workspace_root()
    handler_users()
    guards_log.bind()
    find_all(settings.SWITCHYARD.toolchains)
    _ = settings.SWITCHYARD.services
    with handlers_served():
        rehearse()
    with suppress(DatabaseError):
        connections["default"].bequeath()  # type: ignore[attr-defined]  # that of config.postgresql
    signals.worker_before_create_process.connect(
        serve_handlers, weak=False, dispatch_uid=f"{__name__}.servers"
    )


_serving = 0
"""The process that has started handler servers; supervisors can ask those that their parent had."""


@contextmanager
def handlers_served() -> Iterator[None]:
    """Have handler servers for a while, in a process that will not fork supervisors."""
    global _serving
    serve_handlers()
    try:
        yield
    finally:
        close_servers()
        _serving = 0


def serve_handlers(**_signal: Any) -> None:
    """See that handler servers run, in the process that forks supervisors."""
    global _serving
    if _serving == os.getpid():
        keep_servers_running()
        return
    _serving = os.getpid()
    if isolation_level() is Level.FULL:
        start_wall_server()
    else:
        start_servers(handler_modules(test_types=settings.SWITCHYARD.test_task_types))


@signals.worker_process_init.connect(weak=False, dispatch_uid=__name__)
def be_ready(**_signal: Any) -> None:
    """Connect to the database while there is nothing to do; without one the claim tries again."""
    with suppress(DatabaseError), connection.wrap_database_errors:
        connection.connect()


def forget_ended_session() -> None:
    """Drop a session that ended while it waited for work: who asked nothing is told nothing else."""
    session: Any = connection.connection
    if session is not None and session.has_news():
        connection.close()


def supervise(task_id: str, epoch: int, token: str, *, place: Place | None = None) -> None:
    """Claim the task that a message names and guard its run to the end.

    A message that cannot be claimed (a duplicate, a stale or a forged one, a task that was cancelled or
    is too new for this worker) is dropped. ``place`` is where this process is: by default, in the worker
    whose child it is.
    """
    if place is None:
        assert _workers_place is not None, "only a worker's child knows its place"  # noqa: S101
        place = _workers_place.here()
    fault_points.reach("before_claim")
    forget_ended_session()
    claimed_at = time.monotonic()
    claimed = claim(
        uuid.UUID(task_id),
        epoch,
        token,
        queue=place.queue,
        worker=place.worker,
        machine=place.machine,
        isolation=place.level.value,
        pid=place.pid,
    )
    if claimed is None:
        log.info("message_void", task=task_id, epoch=epoch)
        return
    fault_points.reach("after_claim")
    with structlog.contextvars.bound_contextvars(
        tenant=claimed.tenant,
        task=task_id,
        attempt=claimed.attempt,
        request_id=claimed.request_id,
    ):
        guard(claimed, place, claimed_at=claimed_at)
