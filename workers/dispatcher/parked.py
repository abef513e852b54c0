"""Taking tasks out of their lanes that cannot start whatever the lanes' turn, and bringing them back."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping

from django.db import connection

from rest.ties import again_on_ties
from workers.dispatcher.store import NAME

PARK = """
WITH led AS (
  SELECT 1 FROM leader WHERE name = %(name)s AND epoch = %(leader)s FOR SHARE
), gone AS (
  DELETE FROM ready r USING led, unnest(%(ids)s::uuid[]) AS chosen(id) WHERE r.task_id = chosen.id
  RETURNING r.*
)
INSERT INTO parked (task_id, queue, tenant_id, rank, ordinal, epoch, type_id, type_version,
                    preemptible, reason)
SELECT task_id, queue, tenant_id, rank, ordinal, epoch, type_id, type_version, preemptible, %(reason)s
  FROM gone
"""

UNPARK = """
WITH led AS (
  SELECT 1 FROM leader WHERE name = %(name)s AND epoch = %(leader)s FOR SHARE
), gone AS (
  DELETE FROM parked p
   USING led, unnest(%(types)s::int[], %(versions)s::int[]) AS able(type_id, version)
   WHERE p.reason = 'no_worker' AND p.queue = %(queue)s
     AND p.type_id = able.type_id AND p.type_version <= able.version
  RETURNING p.*
)
INSERT INTO ready (task_id, queue, tenant_id, rank, ordinal, epoch, type_id, type_version, preemptible)
SELECT task_id, queue, tenant_id, rank, ordinal, epoch, type_id, type_version, preemptible FROM gone
RETURNING tenant_id
"""


@again_on_ties
def park(leader: int, task_ids: Iterable[uuid.UUID], reason: str) -> None:
    """Take tasks, in the order of their ordinals, out of lanes whose turn alone cannot start them."""
    with connection.cursor() as cursor:
        cursor.execute(PARK, {"name": NAME, "leader": leader, "ids": list(task_ids), "reason": reason})


@again_on_ties
def unpark(leader: int, queue: str, types: Mapping[int, int]) -> set[int]:
    """Bring tasks back that no worker could run: of these types, up to the version given of each.

    Returns the tenants whose lanes have grown.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            UNPARK,
            {
                "name": NAME,
                "leader": leader,
                "queue": queue,
                "types": list(types),
                "versions": list(types.values()),
            },
        )
        return {row[0] for row in cursor.fetchall()}
