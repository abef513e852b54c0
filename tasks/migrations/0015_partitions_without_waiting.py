"""Making and dropping months of history holds nobody up who submits, however long somebody reads.

A table that is made as a partition needs its parent for itself alone, and whoever comes meanwhile waits
behind it: a dump of the database would have stopped every submission. A table that is made apart and
attached lets others write the parent; only the default partition is locked, and searched for rows of
that month. Dropping a month needs the parent alone, as there is no other way beside a default
partition. Both give up after half a second; the next call makes up for it.
"""

from __future__ import annotations

from django.db import migrations

LOCK_TIMEOUT = "500ms"

# The CHECK spares PostgreSQL from reading the table when it is attached.
ATTACH = """
        EXECUTE format('CREATE TABLE %1$I (LIKE %2$I INCLUDING ALL,
            CONSTRAINT month_of_history CHECK (task_id >= %3$L AND task_id < %4$L))',
          child, parent, lowest, highest);
        EXECUTE format('ALTER TABLE %2$I ATTACH PARTITION %1$I FOR VALUES FROM (%3$L) TO (%4$L)',
          child, parent, lowest, highest);
        EXECUTE format('ALTER TABLE %1$I DROP CONSTRAINT month_of_history', child);
"""

AS_PARTITION = """
        EXECUTE format('CREATE TABLE %1$I PARTITION OF %2$I FOR VALUES FROM (%3$L) TO (%4$L)',
          child, parent, lowest, highest);
"""


def ensure(make: str) -> str:
    """Return what defines the function of migration 0002 with another way to make a month."""
    return f"""
CREATE OR REPLACE FUNCTION ensure_history_partitions(ahead integer) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
  month timestamptz;
  parent text;
  child text;
  lowest uuid;
  highest uuid;
  made integer := 0;
BEGIN
  PERFORM pg_advisory_xact_lock(hashtextextended('ensure_history_partitions', 0));
  FOR i IN 0..ahead LOOP
    month := (date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => i))
             AT TIME ZONE 'UTC';
    lowest := uuidv7_floor(month);
    highest := uuidv7_floor(((month AT TIME ZONE 'UTC') + interval '1 month') AT TIME ZONE 'UTC');
    FOREACH parent IN ARRAY ARRAY['event', 'log_chunk'] LOOP
      child := parent || to_char(month AT TIME ZONE 'UTC', '_YYYY_MM');
      IF to_regclass(child) IS NULL THEN
{make}
        made := made + 1;
      END IF;
    END LOOP;
  END LOOP;
  RETURN made;
END $$;
"""


PATIENCE = f"""
ALTER FUNCTION ensure_history_partitions(integer) SET lock_timeout = '{LOCK_TIMEOUT}';
ALTER FUNCTION drop_history_partitions(timestamptz) SET lock_timeout = '{LOCK_TIMEOUT}';
"""
WAIT = """
ALTER FUNCTION ensure_history_partitions(integer) RESET lock_timeout;
ALTER FUNCTION drop_history_partitions(timestamptz) RESET lock_timeout;
"""


class Migration(migrations.Migration):
    dependencies = [("tasks", "0014_parked_lines")]

    operations = [
        migrations.RunSQL(ensure(ATTACH), ensure(AS_PARTITION)),
        migrations.RunSQL(PATIENCE, WAIT),
    ]
