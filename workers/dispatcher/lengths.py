"""How long runs take, learnt from those that have ended: for forecasts, rules and the next leader.

Once a second, and only when something has ended, one statement reads how long those runs took and moves
the averages of their types (and of their tenants' tasks of the type) towards it; the numbers never leave
PostgreSQL. One that leads no more may still write once: an average that is moved twice harms nobody.
"""

from __future__ import annotations

import uuid

from django.db import connection

from workers.dispatcher.allowances import EWMA_SHARE

MOST_AT_ONCE = 2000
"""Ended tasks that are learnt from in one statement; of more, the newest."""

# A run that was cut short says nothing about how long one takes. Rows in one order: no two writers
# can wait for each other.
LEARN = """
WITH ended AS (
  SELECT t.tenant_id, y.id AS type_id, greatest(0.001, extract(epoch FROM r.finished_at - r.started_at))
         AS seconds
    FROM unnest(%(ids)s::uuid[]) AS gone(id)
    JOIN task t ON t.id = gone.id
    JOIN task_type y ON y.name = t.type
    JOIN run r ON r.task_id = t.id AND r.attempt = t.attempt
   WHERE r.status IN ('completed', 'failed', 'timed_out')
), means AS (
  SELECT type_id, coalesce(tenant_id, 0) AS tenant_id, avg(seconds) AS seconds, count(*) AS runs
    FROM ended GROUP BY GROUPING SETS ((type_id, tenant_id), (type_id))
)
INSERT INTO estimate AS e (type_id, tenant_id, seconds, updated_at)
SELECT type_id, tenant_id, seconds, clock_timestamp() FROM means ORDER BY type_id, tenant_id
ON CONFLICT (type_id, tenant_id) DO UPDATE
   SET seconds = e.seconds + (excluded.seconds - e.seconds)
                 * (1 - (1 - %(share)s::float8) ^ (SELECT m.runs FROM means m
                       WHERE m.type_id = e.type_id AND m.tenant_id = e.tenant_id)),
       updated_at = excluded.updated_at
"""


class Lengths:
    """The tasks that have left ``inflight`` since the averages were last moved."""

    def __init__(self) -> None:
        self._ended: list[uuid.UUID] = []

    def note(self, task_id: uuid.UUID) -> None:
        """Note that a task runs no more."""
        self._ended.append(task_id)

    def write(self) -> None:
        """Learn from what was noted. Call it at most once a second."""
        ended, self._ended = self._ended[-MOST_AT_ONCE:], []
        if ended:
            with connection.cursor() as cursor:
                cursor.execute(LEARN, {"ids": ended, "share": EWMA_SHARE})


def known_lengths() -> dict[int, float]:
    """Return the average seconds of each type, by its id, over all tenants: for a new leader."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT type_id, seconds FROM estimate WHERE tenant_id = 0")
        return dict(cursor.fetchall())
