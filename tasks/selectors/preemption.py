"""Batch runs that may be asked to make room for critical work: one rule for who chooses and who asks."""

from __future__ import annotations

import uuid
from typing import NamedTuple

from django.conf import settings
from django.db.models import DurationField, Exists, ExpressionWrapper, F, OuterRef, Q, Subquery
from django.db.models.functions import Now

from tasks.models import Inflight, Run, Task, Worker
from tasks.states import Queue, Status


class BatchRun(NamedTuple):
    """A run of the batch queue. ``seconds``: for how long it has been going on.

    ``ending``: it was asked to stop, by whomever. ``leaving``: its worker drains, so nobody else can
    have its slot. ``may_be_asked``: see :func:`may_be_preempted`.
    """

    task_id: uuid.UUID
    epoch: int
    tenant_id: int
    type_id: int
    seconds: float
    ending: bool
    leaving: bool
    may_be_asked: bool


def may_be_preempted() -> Q:
    """Return the condition of a task whose run loses nothing but work by being stopped.

    Whoever was stopped ``SWITCHYARD_MAX_PREEMPTIONS`` times is left to finish: it would never end
    otherwise. A checkpoint that is ``null`` is none, as the next attempt finds nothing in it.
    """
    checkpointed = Q(checkpoint__isnull=False) & ~Q(checkpoint=None)
    return (Q(idempotent=True) | checkpointed) & Q(
        queue=Queue.BATCH,
        status=Status.RUNNING,
        preemptible=True,
        cancel_requested_at=None,
        preemptions__lt=settings.SWITCHYARD.max_preemptions,
    )


def batch_runs() -> list[BatchRun]:
    """Return all runs of the batch queue, a few hundred at most. One query."""
    attempt = Run.objects.filter(task_id=OuterRef("pk"), epoch=OuterRef("epoch"))
    rows = (
        Inflight.objects.filter(queue=Queue.BATCH, state="running")
        .annotate(
            since=Subquery(attempt.values("started_at")),
            leaving=Exists(Worker.objects.filter(pk=OuterRef("worker")).filter(status="draining")),
            may=Exists(Task.objects.filter(may_be_preempted(), pk=OuterRef("pk"))),
        )
        .annotate(went=ExpressionWrapper(Now() - F("since"), output_field=DurationField()))
        .values_list(
            "task_id", "epoch", "tenant_id", "type_id", "went", "ask", "leaving", "may", named=True
        )
    )
    return [
        BatchRun(
            row.task_id,
            row.epoch,
            row.tenant_id,
            row.type_id,
            seconds=row.went.total_seconds(),
            ending=row.ask is not None,
            leaving=row.leaving,
            may_be_asked=row.may,
        )
        for row in rows
    ]
