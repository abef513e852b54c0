"""Forgetting results that are older than they are kept (months of history: :mod:`tasks.partitions`)."""

from __future__ import annotations

from django.db import connection, transaction

EXPIRY_BATCH = 500

# Locked in the order of ordinals like every change of tasks, and only what nobody is changing now.
EXPIRE = """
WITH old AS (
  SELECT id FROM task
   WHERE result IS NOT NULL AND finished_at < now() - make_interval(secs => %(seconds)s)
   ORDER BY ordinal LIMIT %(batch)s FOR UPDATE SKIP LOCKED
), runs AS (
  UPDATE run SET result = NULL FROM old WHERE run.task_id = old.id AND run.result IS NOT NULL
)
UPDATE task SET result = NULL, result_expired = true FROM old WHERE task.id = old.id
"""


def results_expire(seconds: float) -> int:
    """Remove the results of tasks that ended more than ``seconds`` ago; return how many.

    Status, error and events stay; ``result_expired`` tells that there was a result.
    """
    expired = 0
    while True:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(EXPIRE, {"seconds": seconds, "batch": EXPIRY_BATCH})
            done = int(cursor.rowcount)
        expired += done
        if done < EXPIRY_BATCH:
            return expired
