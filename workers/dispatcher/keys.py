"""Letting the next task in that waits for its key: fenced by the leader, decided by the slots."""

from __future__ import annotations

from typing import Any

from django.db import connection, transaction

from rest.ties import again_on_ties
from tasks.services.keys import SLOTS
from workers.dispatcher.store import NAME, prepared

TOGETHER = 500

# One probe for each key that somebody waits for, however many do; its first waiting tasks get the
# slots that are free, in order.
CHOOSE = f"""
WITH RECURSIVE waiting AS (
  (SELECT tenant_id, key FROM parked WHERE key IS NOT NULL ORDER BY tenant_id, key LIMIT 1)
  UNION ALL
  SELECT next.tenant_id, next.key
    FROM waiting w
   CROSS JOIN LATERAL (
     SELECT p.tenant_id, p.key FROM parked p
      WHERE p.key IS NOT NULL AND (p.tenant_id, p.key) > (w.tenant_id, w.key)
      ORDER BY p.tenant_id, p.key LIMIT 1) next
)
SELECT first.task_id, free.slot
  FROM waiting w
 CROSS JOIN LATERAL (
   SELECT s AS slot, row_number() OVER (ORDER BY s) AS n
     FROM generate_series(0, {SLOTS.format(tenant="w.tenant_id")} - 1) s
    WHERE NOT EXISTS (SELECT 1 FROM key_holder h
                       WHERE h.tenant_id = w.tenant_id AND h.key = w.key AND h.slot = s)) free
  JOIN LATERAL (
   SELECT p.task_id, row_number() OVER (ORDER BY p.rank, p.ordinal) AS n
     FROM (SELECT task_id, rank, ordinal FROM parked
            WHERE tenant_id = w.tenant_id AND key = w.key
            ORDER BY rank, ordinal LIMIT 100) p) first ON first.n = free.n
 LIMIT {TOGETHER}
"""  # noqa: S608 - our own text

# A task that is being cancelled is passed over; a slot that a submission has just taken, too.
LET_IN = """
WITH led AS (
  SELECT 1 FROM leader WHERE name = %(name)s AND epoch = %(leader)s FOR SHARE
), locked AS (
  SELECT p.task_id, p.tenant_id, p.key, chosen.slot
    FROM parked p
    JOIN unnest(%(ids)s::uuid[], %(slots)s::int[]) AS chosen(id, slot) ON p.task_id = chosen.id
   WHERE p.key IS NOT NULL AND EXISTS (SELECT 1 FROM led)
     FOR UPDATE OF p SKIP LOCKED
), held AS (
  INSERT INTO key_holder (task_id, tenant_id, key, slot)
  SELECT task_id, tenant_id, key, slot FROM locked
  ON CONFLICT DO NOTHING RETURNING task_id
), gone AS (
  DELETE FROM parked p USING held WHERE p.task_id = held.task_id RETURNING p.*
)
INSERT INTO ready (task_id, queue, tenant_id, rank, ordinal, epoch, type_id, type_version, preemptible)
SELECT task_id, queue, tenant_id, rank, ordinal, epoch, type_id, type_version, preemptible FROM gone
ON CONFLICT DO NOTHING
RETURNING queue, tenant_id
"""


@again_on_ties
def let_in(leader: int) -> set[tuple[str, int]]:
    """Give free keys to those who wait for them and return the lanes (queue, tenant) that have grown."""
    chosen = prepared(CHOOSE, {})
    if not chosen:
        return set()
    values: dict[str, Any] = {
        "name": NAME,
        "leader": leader,
        "ids": [row[0] for row in chosen],
        "slots": [row[1] for row in chosen],
    }
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(LET_IN, values)
        return {(row[0], row[1]) for row in cursor.fetchall()}
