"""Where tasks stand in their line is counted, from one to the next, instead of numbering all of the line.

Counting reads the index alone: half the time for a line of ten thousand, which every submission to such
a line pays for.
"""

from __future__ import annotations

from importlib import import_module

from django.db import migrations

# The settings are for a plan that was made while nothing was in line (see 0016).
PLACES_IN_LINE = """
CREATE OR REPLACE FUNCTION places_in_line(lane_queue text, lane_tenant bigint, asked uuid[], most integer)
RETURNS TABLE (id uuid, before bigint) LANGUAGE plpgsql STABLE
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
AS $$
DECLARE
  wanted record;
  more bigint;
  passed_rank smallint := -32768;
  passed_ordinal bigint := -9223372036854775808;
BEGIN
  before := 0;
  FOR wanted IN
    SELECT in_line.*
      FROM unnest(asked) AS one(id)
     CROSS JOIN LATERAL (SELECT r.task_id, r.rank, r.ordinal FROM ready r
                          WHERE r.task_id = one.id LIMIT 1) in_line
     ORDER BY in_line.rank, in_line.ordinal
  LOOP
    IF before < most THEN
      SELECT count(*) INTO more
        FROM (SELECT 1 FROM ready r
               WHERE r.queue = lane_queue AND r.tenant_id = lane_tenant
                 AND (r.rank, r.ordinal) >= (passed_rank, passed_ordinal)
                 AND (r.rank, r.ordinal) < (wanted.rank, wanted.ordinal)
               ORDER BY r.rank, r.ordinal LIMIT most - before) counted;
      before := before + more;
      passed_rank := wanted.rank;
      passed_ordinal := wanted.ordinal;
    END IF;
    id := wanted.task_id;
    RETURN NEXT;
  END LOOP;
END $$;
"""

numbering = import_module("tasks.migrations.0016_places_in_line")


class Migration(migrations.Migration):
    dependencies = [("tasks", "0016_places_in_line")]

    operations = [
        migrations.RunSQL(
            PLACES_IN_LINE,
            "DROP FUNCTION places_in_line(text, bigint, uuid[], integer);" + numbering.PLACES_IN_LINE,
        ),
    ]
