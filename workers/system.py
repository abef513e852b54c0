"""The platform's own Celery tasks, on the queue ``system``; beat rings for them (beat_schedule).

Beat is only a clock: each task looks in PostgreSQL what there is to do, so one that comes twice,
late or not at all changes nothing that the next one does not mend.
"""

from __future__ import annotations

import structlog
from django.db import close_old_connections
from django.utils import timezone

from rest import idempotency
from tasks.partitions import ensure_history_partitions
from tasks.services.files import remove_unnamed
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


@app.task(name="workers.system.prune")
def prune() -> None:
    """Forget idempotency records that are older than they are kept."""
    close_old_connections()
    forgotten = idempotency.prune(timezone.now())
    if forgotten:
        log.info("idempotency_records_pruned", count=forgotten)
