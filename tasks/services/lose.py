"""Ending runs that nobody looks after any more: their lease is over, or their supervisor is dead."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from django.db.models.functions import Now

from rest.database_errors import is_away
from rest.ties import again_on_ties
from tasks import fault_points
from tasks.clock import database_now
from tasks.errors import Fenced
from tasks.models import Inflight, Run, Worker
from tasks.outcomes import Outcome
from tasks.services.finish import finish
from tasks.services.ready import one_change
from tasks.services.transitions import lock_task
from tasks.states import RunStatus, Status

REPORT_SECONDS = 4
"""Machines report their workers every two seconds; one that is later than this has gone silent."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Expired:
    """A run whose lease has ended."""

    task_id: uuid.UUID
    epoch: int


def expired_runs(limit: int = 100, but: Sequence[uuid.UUID] = ()) -> list[Expired]:
    """Return runs whose lease has ended, by the database's clock, the longest overdue first.

    ``but``: tasks that are left out.
    """
    rows = (
        Inflight.objects.filter(state="running", lease_until__lt=Now())
        .exclude(pk__in=but)
        .order_by("lease_until")
        .values_list("task_id", "epoch")[:limit]
    )
    return [Expired(task_id, epoch) for task_id, epoch in rows]


@again_on_ties
def lose(lost: Expired, *, crashed: bool | None = None) -> Status | None:
    """End a run whose lease has ended as ``lost``; None if it was renewed, ended, or is undecided.

    The check and the end are one transaction that holds the task's lock, so a supervisor that
    renews at the last moment either comes first, and keeps its run, or finds it gone.
    ``crashed`` says that the run took only its own supervisor down, which is what poison does: its
    machine alone can know that, from the supervisor's exit. None is for a lease that ended untold:
    the machine gets the time to tell (:func:`_may_yet_be_told`), and after that the loss is nobody's
    fault, as in an outage of the database, where each supervisor ends its run and then itself.
    """
    with one_change():
        lock_task(lost.task_id)
        row = (
            Inflight.objects.select_for_update()
            .filter(pk=lost.task_id, epoch=lost.epoch, state="running", lease_until__lt=Now())
            .first()
        )
        if row is None:
            return None
        fault_points.reach("in_reap")
        if crashed is None and _may_yet_be_told(row):
            return None
        error = {
            "code": "lost",
            "message": "The worker of this run was lost: it died, or did not renew its lease in time.",
        }
        try:
            return finish(
                lost.task_id,
                lost.epoch,
                Outcome(RunStatus.LOST, error=error, crashed=bool(crashed)),
            )
        except Fenced:
            return None


def _may_yet_be_told(row: Inflight) -> bool:
    """Whether the machine of a run has not reported since its lease ended, but lately enough.

    A report tells of dead supervisors first (:func:`lose_runs_of`), and only then that the worker
    was seen: one that came after the lease's end has told all there was.
    """
    if row.worker is None:
        return False
    worker = Worker.objects.filter(pk=row.worker, status__in=("alive", "draining")).first()
    if worker is None or worker.seen_at > row.lease_until:
        return False
    return (database_now() - worker.seen_at).total_seconds() < REPORT_SECONDS


def lose_runs_of(worker: uuid.UUID, *, supervisor: int | None = None, crashed: bool = False) -> int:
    """End the runs of a worker that is known to be dead, or those of one dead supervisor (its pid).

    Not before everything that they had started is known to be dead as well. Return how many there
    were: usually none, because most supervisors write the end of their run before their own.

    Raises:
        Exception: what the first of those raised that could not be ended; all others have been.
    """
    rows = Inflight.objects.filter(worker=worker, state="running")
    live = dict(rows.values_list("task_id", "epoch"))
    if supervisor is not None and live:
        theirs = Run.objects.filter(task_id__in=live, status=RunStatus.RUNNING.value, pid=supervisor)
        live = dict(theirs.values_list("task_id", "epoch"))
    lost, failures = 0, []
    for task_id, epoch in live.items():
        try:
            lost += lose_now(task_id, epoch=epoch, crashed=crashed) is not None
        except Exception as error:
            if is_away(error):
                raise
            log.error("run_not_lost", task=str(task_id), epoch=epoch, error=str(error))
            failures.append(error)
    if failures:
        raise failures[0]
    return lost


def lose_now(task_id: uuid.UUID, *, epoch: int, crashed: bool) -> Status | None:
    """End a run as lost at once, because its supervisor is known to be dead.

    Not inside a transaction of the caller's: it compares times, and a transaction has only one.
    """
    Inflight.objects.filter(pk=task_id, epoch=epoch, state="running").update(lease_until=Now())
    return lose(Expired(task_id, epoch), crashed=crashed)
