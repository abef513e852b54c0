"""The platform's own Celery tasks, on the queue ``system``; beat rings for them (beat_schedule).

Beat is only a clock: each task looks in PostgreSQL what there is to do, so one that comes twice,
late or not at all changes nothing that the next one does not mend.
"""

from __future__ import annotations

import structlog
from django.conf import settings
from django.db import close_old_connections
from django.utils import timezone

from rest import idempotency
from tasks.partitions import drop_history_partitions, ensure_history_partitions
from tasks.services.files import remove_unnamed
from tasks.services.retention import results_expire
from workers.celery_app import app

log = structlog.get_logger(__name__)


@app.task(name="workers.system.partitions")
def partitions() -> None:
    """Make the coming months' partitions of events and logs."""
    close_old_connections()
    made = ensure_history_partitions()
    if made:
        log.info("partitions_made", count=made)


@app.task(name="workers.system.files")
def files() -> None:
    """Remove the content of files that are gone, or that never came to be."""
    close_old_connections()
    while removed := remove_unnamed():
        log.info("content_removed", count=removed)


@app.task(name="workers.system.retention")
def retention() -> None:
    """Forget results and months of history that are older than they are kept."""
    close_old_connections()
    expired = results_expire(settings.SWITCHYARD.result_retention)
    kept = settings.SWITCHYARD.history_retention
    dropped = drop_history_partitions(kept) if kept else 0
    if expired or dropped:
        log.info("expired", results=expired, partitions=dropped)


@app.task(name="workers.system.prune")
def prune() -> None:
    """Forget idempotency records that are older than they are kept."""
    close_old_connections()
    forgotten = idempotency.prune(timezone.now())
    if forgotten:
        log.info("idempotency_records_pruned", count=forgotten)
