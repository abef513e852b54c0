"""Where tasks stand in their line is found by the line's index, whatever the statistics say.

A session of ours keeps the plan of a question that it asks again and again. One that was planned while
nothing was in line read and sorted all of a line that was filled since, until the table was analysed.
"""

from __future__ import annotations

from django.db import migrations

PLACES_IN_LINE = """
CREATE FUNCTION places_in_line(lane_queue text, lane_tenant bigint, asked uuid[], most integer)
RETURNS TABLE (id uuid, before bigint) LANGUAGE plpgsql STABLE
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
BEGIN
  RETURN QUERY
  WITH front AS MATERIALIZED (
    SELECT numbered.task_id, numbered.before
      FROM (SELECT first.task_id, row_number() OVER (ORDER BY first.rank, first.ordinal) - 1 AS before
              FROM (SELECT r.task_id, r.rank, r.ordinal FROM ready r
                     WHERE r.queue = lane_queue AND r.tenant_id = lane_tenant
                     ORDER BY r.rank, r.ordinal LIMIT most) first) numbered
     WHERE numbered.task_id = ANY (asked)
  )
  SELECT in_line.task_id, coalesce(front.before, most)
    FROM unnest(asked) AS wanted(id)
   CROSS JOIN LATERAL (SELECT r.task_id FROM ready r WHERE r.task_id = wanted.id LIMIT 1) in_line
    LEFT JOIN front ON front.task_id = in_line.task_id;
END $$;
"""


class Migration(migrations.Migration):
    dependencies = [("tasks", "0015_partitions_without_waiting")]

    operations = [
        migrations.RunSQL(PLACES_IN_LINE, "DROP FUNCTION places_in_line(text, bigint, uuid[], integer)"),
    ]
