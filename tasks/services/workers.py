"""Workers and what they can run, as their machine's pool manager reports them."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from django.db import transaction
from django.db.models.functions import Now

from audit.services import record
from tasks.errors import WorkerGone
from tasks.models import TaskType, Worker
from tasks.wakeup import wake_on_commit

TYPE_COLUMNS = (
    "title",
    "description",
    "queue",
    "params_schema",
    "version",
    "handler",
    "cancellable",
    "idempotent",
    "preemptible",
    "steering",
    "network",
    "time_limit",
    "max_retries",
    "retry",
    "limits",
    "secrets",
    "needs",
    "on_loss",
    "on_shutdown",
    "test_only",
)


def worker_register(
    *,
    worker_id: uuid.UUID,
    name: str,
    queue: str,
    machine: str,
    host: str,
    pid: int,
    slots: int,
    isolation: str,
    version: str,
    types: Mapping[str, int],
    handlers: Mapping[str, str],
) -> None:
    """Announce a worker process that has started and can take tasks of ``types`` (name to version).

    ``handlers`` (name to ``module:function``) is where this worker has them: the type's own row tells
    where the newest one has.
    """
    with transaction.atomic():
        Worker.objects.update_or_create(
            id=worker_id,
            defaults={
                "name": name,
                "queue": queue,
                "machine": machine,
                "host": host,
                "pid": pid,
                "slots": slots,
                "isolation": isolation,
                "version": version,
                "types": dict(types),
                "handlers": dict(handlers),
                "status": "alive",
                "seen_at": Now(),
                "gone_at": None,
            },
        )
        wake_on_commit("*", 0)


def worker_seen(worker_id: uuid.UUID, *, busy: int, draining: bool = False) -> None:
    """Note that a worker process is alive and how many of its slots are busy."""
    Worker.objects.filter(pk=worker_id).update(
        seen_at=Now(), busy=busy, status="draining" if draining else "alive"
    )


def worker_gone(worker_id: uuid.UUID, *, lost: bool = False) -> None:
    """Note that a worker process has ended, or was lost."""
    Worker.objects.filter(pk=worker_id).exclude(status__in=("gone", "lost")).update(
        status="lost" if lost else "gone", gone_at=Now(), busy=0
    )


def worker_drain(worker_id: uuid.UUID, *, actor: str, reason: str = "") -> bool:
    """Ask a worker to finish what it runs and end; its machine's pool manager starts another first.

    False if it was asked before.

    Raises:
        Worker.DoesNotExist: there is no such worker.
        WorkerGone: it does not live any more.
    """
    with transaction.atomic():
        worker = Worker.objects.select_for_update().get(pk=worker_id)
        if worker.status not in ("alive", "draining"):
            raise WorkerGone(worker.name)
        if worker.status == "draining" or worker.drain_requested_at is not None:
            return False
        Worker.objects.filter(pk=worker_id).update(drain_requested_at=Now())
        record(actor=actor, action="worker.drain", object=f"worker:{worker_id}", reason=reason)
    return True


def workers_to_drain(worker_ids: Iterable[uuid.UUID]) -> set[uuid.UUID]:
    """Return those of some workers that an operator wants to see drained."""
    asked = Worker.objects.filter(pk__in=tuple(worker_ids), drain_requested_at__isnull=False)
    return set(asked.values_list("pk", flat=True))


def workers_lose_silent(after_seconds: float) -> int:
    """Mark workers that were not seen for ``after_seconds`` as lost; return how many."""
    from datetime import timedelta

    return (
        Worker.objects.filter(status__in=("alive", "draining"))
        .filter(seen_at__lt=Now() - timedelta(seconds=after_seconds))
        .update(status="lost", gone_at=Now(), busy=0)
    )


def task_types_publish(types: Mapping[str, Mapping[str, Any]]) -> None:
    """Store what a worker can run; ``types`` maps a name to the values of :data:`TYPE_COLUMNS`.

    A type that is known in a newer version stays as it is: a worker of the release before, started
    beside newer ones, must not take back what tasks are submitted against. So does one that has not
    changed: what was submitted since is not checked again when it is claimed.
    """
    with transaction.atomic():
        for name in sorted(types):
            described = {column: types[name][column] for column in TYPE_COLUMNS}
            known = TaskType.objects.select_for_update().filter(name=name).first()
            if known is not None:
                stored = {column: getattr(known, column) for column in TYPE_COLUMNS}
                if known.version > described["version"] or stored == described:
                    continue
            TaskType.objects.update_or_create(name=name, defaults={**described, "updated_at": Now()})
