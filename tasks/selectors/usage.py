"""What a tenant uses right now, in the shape of its limits."""

from __future__ import annotations

from typing import Any

from django.db import connection

from tasks.states import Queue
from tenants.models import Tenant

COUNT = """
SELECT queue, sum(running)::bigint, sum(queued)::bigint FROM (
  SELECT queue, count(*) AS running, 0 AS queued FROM inflight WHERE tenant_id = %s GROUP BY queue
  UNION ALL
  SELECT queue, 0, count(*) FROM ready
   WHERE tenant_id = %s AND queue IN ('critical', 'normal', 'batch') GROUP BY queue
  UNION ALL
  SELECT queue, 0, count(*) FROM parked WHERE tenant_id = %s GROUP BY queue
) counted GROUP BY queue
"""


def usage_for(tenant: Tenant) -> dict[str, Any]:
    """Return ``{"running", "queued", "queues": {name: {"running", "queued"}}}``. One query.

    *running* counts what occupies a place, dispatched tasks too; *queued* what is in line.
    """
    queues = {queue.value: {"running": 0, "queued": 0} for queue in Queue}
    with connection.cursor() as cursor:
        cursor.execute(COUNT, [tenant.pk] * 3)
        for queue, running, queued in cursor.fetchall():
            queues[queue] = {"running": running, "queued": queued}
    return {
        "running": sum(counts["running"] for counts in queues.values()),
        "queued": sum(counts["queued"] for counts in queues.values()),
        "queues": queues,
    }
