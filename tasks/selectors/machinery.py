"""The platform itself, for operators: workers, queues and lanes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from django.db import connection
from django.db.models.functions import Now

from rest.times import rfc3339
from tasks.models import Lane, Worker
from tasks.states import Queue
from tenants.limits import WINDOWED
from tenants.models import Limit, Tenant
from tenants.windows import state_json

ALIVE = ("alive", "draining")

# The oldest wait is of what could start now: tasks in line, not those waiting for time or parents.
QUEUES = """
SELECT q.name,
       (SELECT count(*) FROM ready WHERE queue = q.name),
       (SELECT count(*) FROM parked WHERE queue = q.name),
       (SELECT count(*) FROM inflight WHERE queue = q.name AND state = 'dispatched'),
       (SELECT count(*) FROM inflight WHERE queue = q.name AND state = 'running'),
       (SELECT min(t.queued_at) FROM task t
         WHERE t.id IN (SELECT r.task_id FROM ready r WHERE r.queue = q.name
                         ORDER BY r.ordinal LIMIT 1)),
       EXISTS (SELECT 1 FROM pause WHERE subject = 'queue' AND name = q.name),
       (SELECT count(*) FROM parked WHERE queue = q.name AND reason = 'off_peak')
         + (SELECT count(*) FROM lane l JOIN ready r ON r.queue = l.queue AND r.tenant_id = l.tenant_id
             WHERE l.queue = q.name AND l.waiting_for = 'off_peak')
  FROM unnest(%s::text[]) AS q(name)
"""


class QueueState(NamedTuple):
    """What is in one queue now. ``oldest`` is when the one that waits longest entered the line;
    ``off_peak`` are those of ready and parked that off-peak windows hold.
    """

    name: str
    ready: int
    parked: int
    dispatched: int
    running: int
    oldest: datetime | None
    paused: bool
    off_peak: int


def queue_states() -> list[QueueState]:
    """Return the three queues. One query."""
    order = [queue.value for queue in Queue]
    with connection.cursor() as cursor:
        cursor.execute(QUEUES, [order])
        return sorted((QueueState(*row) for row in cursor.fetchall()), key=lambda q: order.index(q.name))


def queue_json(state: QueueState, now: datetime) -> dict[str, Any]:
    """Return a queue for operators; ``oldest_wait`` is in seconds, null when nothing waits."""
    waited = None if state.oldest is None else max(0.0, (now - state.oldest).total_seconds())
    return {
        "name": state.name,
        "ready": state.ready,
        "parked": state.parked,
        "dispatched": state.dispatched,
        "running": state.running,
        "oldest_wait": waited,
        "paused": state.paused,
        "off_peak": state.off_peak,
    }


def worker_json(worker: Worker) -> dict[str, Any]:
    """Return a worker process for operators."""
    return {
        "id": str(worker.pk),
        "name": worker.name,
        "queue": worker.queue,
        "status": worker.status,
        "host": worker.host,
        "machine": worker.machine,
        "pid": worker.pid,
        "slots": worker.slots,
        "busy": worker.busy,
        "isolation": worker.isolation,
        "version": worker.version,
        "types": worker.types,
        "started_at": rfc3339(worker.started_at),
        "seen_at": rfc3339(worker.seen_at),
        "gone_at": rfc3339(worker.gone_at),
        "drain_requested_at": rfc3339(worker.drain_requested_at),
    }


def lanes_json(lanes: Sequence[Lane]) -> list[dict[str, Any]]:
    """Return lanes with their tenants' slugs and what waits in them; three queries.

    ``off_peak`` is ``{"open", "until"}`` of a lane that has off-peak windows, else null.
    """
    slugs = dict(
        Tenant.objects.filter(pk__in={lane.tenant_id for lane in lanes}).values_list("pk", "slug")
    )
    ready = _ready_counts(lanes)
    off_peak = _off_peak_states(lane.tenant_id for lane in lanes if lane.queue == WINDOWED)
    return [
        {
            "tenant": slugs.get(lane.tenant_id),
            "queue": lane.queue,
            "ready": ready.get((lane.tenant_id, lane.queue), 0),
            "running": lane.running,
            "waiting_for": lane.waiting_for or None,
            "detail": lane.detail,
            "off_peak": off_peak.get(lane.tenant_id) if lane.queue == WINDOWED else None,
            "vtime": lane.vtime,
            "updated_at": rfc3339(lane.updated_at),
        }
        for lane in lanes
    ]


def _ready_counts(lanes: Sequence[Lane]) -> dict[tuple[int, str], int]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT a.tenant_id, a.queue, (SELECT count(*) FROM ready r"
            " WHERE r.queue = a.queue AND r.tenant_id = a.tenant_id)"
            " FROM unnest(%s::bigint[], %s::text[]) AS a(tenant_id, queue)",
            [[lane.tenant_id for lane in lanes], [lane.queue for lane in lanes]],
        )
        return {(tenant_id, queue): count for tenant_id, queue, count in cursor.fetchall()}


def _off_peak_states(tenants: Iterable[int]) -> dict[int, dict[str, Any] | None]:
    found = Limit.objects.filter(tenant_id__in=tenants, queue=WINDOWED, windows__isnull=False)
    rows = list(found.values_list("tenant_id", "windows", Now()))
    return {tenant_id: state_json(windows, now) for tenant_id, windows, now in rows}
