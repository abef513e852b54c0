"""What PostgreSQL itself enforces, and the tables that Django cannot describe.

Partitioned history: ``event`` and ``log_chunk`` are partitioned by range on ``task_id``. A UUIDv7
begins with 48 bits of milliseconds, so a month of submissions is one range of ids, all rows of a
task lie in one partition, and ``(task_id, seq)`` is unique over all of them.
"""

from __future__ import annotations

import django.contrib.postgres.fields
import django.db.models.functions.datetime
from django.db import migrations, models

# The same table as tasks.states.TRANSITIONS, frozen; tests/tasks/test_guards.py compares the two.
TRANSITIONS = {
    "allocated": ["scheduled", "blocked", "queued", "cancelled", "dropped"],
    "scheduled": ["blocked", "queued", "cancelled", "dropped"],
    "blocked": ["queued", "cancelled", "dropped"],
    "queued": ["running", "cancelled", "dropped"],
    "running": ["retry_wait", "queued", "completed", "failed", "cancelled", "dropped"],
    "retry_wait": ["queued", "cancelled", "dropped"],
    "failed": ["queued", "blocked"],
    "cancelled": ["queued", "blocked"],
    "dropped": ["queued", "blocked"],
}

_CASES = "\n".join(
    f"      WHEN '{before}' THEN NEW.status IN ({', '.join(repr(s) for s in after)})"
    for before, after in TRANSITIONS.items()
)

GUARD = f"""
CREATE FUNCTION task_guard_update() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.id <> OLD.id OR NEW.ordinal <> OLD.ordinal OR NEW.tenant_id <> OLD.tenant_id
     OR NEW.created_at <> OLD.created_at THEN
    RAISE EXCEPTION 'task %: id, ordinal, tenant and created_at never change', OLD.id
      USING ERRCODE = 'check_violation', CONSTRAINT = 'task_guard';
  END IF;
  IF NEW.last_seq < OLD.last_seq OR NEW.epoch < OLD.epoch OR NEW.attempt < OLD.attempt
     OR NEW.life < OLD.life THEN
    RAISE EXCEPTION 'task %: last_seq, epoch, attempt and life never fall', OLD.id
      USING ERRCODE = 'check_violation', CONSTRAINT = 'task_guard';
  END IF;
  IF NEW.status <> OLD.status THEN
    IF NOT coalesce(CASE OLD.status
{_CASES}
    END, false) THEN
      RAISE EXCEPTION 'task %: % cannot become %', OLD.id, OLD.status, NEW.status
        USING ERRCODE = 'check_violation', CONSTRAINT = 'task_guard';
    END IF;
    IF NEW.last_seq = OLD.last_seq THEN
      RAISE EXCEPTION 'task %: a change of status needs its event', OLD.id
        USING ERRCODE = 'check_violation', CONSTRAINT = 'task_guard';
    END IF;
    IF OLD.finished_at IS NOT NULL AND NEW.life = OLD.life THEN
      RAISE EXCEPTION 'task %: an end is written once per life', OLD.id
        USING ERRCODE = 'check_violation', CONSTRAINT = 'task_guard';
    END IF;
  END IF;
  RETURN NEW;
END $$;

CREATE TRIGGER task_guard_update BEFORE UPDATE ON task
  FOR EACH ROW EXECUTE FUNCTION task_guard_update();

CREATE FUNCTION task_guard_insert() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.status NOT IN ('allocated', 'scheduled', 'blocked', 'queued') OR NEW.last_seq < 1 THEN
    RAISE EXCEPTION 'task %: cannot begin as % with % events', NEW.id, NEW.status, NEW.last_seq
      USING ERRCODE = 'check_violation', CONSTRAINT = 'task_guard';
  END IF;
  RETURN NEW;
END $$;

CREATE TRIGGER task_guard_insert BEFORE INSERT ON task
  FOR EACH ROW EXECUTE FUNCTION task_guard_insert();
"""

DROP_GUARD = """
DROP TRIGGER task_guard_update ON task;
DROP TRIGGER task_guard_insert ON task;
DROP FUNCTION task_guard_update();
DROP FUNCTION task_guard_insert();
"""

HISTORY = """
CREATE TABLE event (
  task_id   uuid        NOT NULL,
  seq       bigint      NOT NULL,
  tenant_id bigint      NOT NULL,
  at        timestamptz NOT NULL DEFAULT clock_timestamp(),
  kind      varchar(10) NOT NULL,
  run       integer,
  data      jsonb       NOT NULL DEFAULT '{}',
  -- The transaction that wrote it: a feed asks "what was not visible yet when I last looked",
  -- which no number or time can answer, since commits do not happen in the order of either.
  txid      xid8        NOT NULL DEFAULT pg_current_xact_id(),
  PRIMARY KEY (task_id, seq)
) PARTITION BY RANGE (task_id);

-- The tenant's feed: state changes since a snapshot.
CREATE INDEX event_feed ON event (tenant_id, txid) WHERE kind = 'state';

CREATE TABLE log_chunk (
  task_id    uuid        NOT NULL,
  seq        bigint      NOT NULL,
  run        integer     NOT NULL,
  at         timestamptz NOT NULL DEFAULT clock_timestamp(),
  stream     varchar(6)  NOT NULL,
  first_line bigint      NOT NULL,
  lines      text[]      NOT NULL,
  offsets    integer[]   NOT NULL,
  PRIMARY KEY (task_id, seq)
) PARTITION BY RANGE (task_id);

CREATE TABLE event_default PARTITION OF event DEFAULT;
CREATE TABLE log_chunk_default PARTITION OF log_chunk DEFAULT;

CREATE FUNCTION uuidv7_floor(moment timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
  SELECT (lpad(to_hex((extract(epoch FROM moment) * 1000)::bigint), 12, '0')
          || '00000000000000000000')::uuid
$$;

-- Make the partitions of this month and the `ahead` next ones; those that exist stay.
CREATE FUNCTION ensure_history_partitions(ahead integer) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
  month timestamptz;
  parent text;
  child text;
  made integer := 0;
BEGIN
  PERFORM pg_advisory_xact_lock(hashtextextended('ensure_history_partitions', 0));
  FOR i IN 0..ahead LOOP
    month := (date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => i))
             AT TIME ZONE 'UTC';
    FOREACH parent IN ARRAY ARRAY['event', 'log_chunk'] LOOP
      child := parent || to_char(month AT TIME ZONE 'UTC', '_YYYY_MM');
      IF to_regclass(child) IS NULL THEN
        EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)', child,
          parent, uuidv7_floor(month), uuidv7_floor(
            ((month AT TIME ZONE 'UTC') + interval '1 month') AT TIME ZONE 'UTC'));
        made := made + 1;
      END IF;
    END LOOP;
  END LOOP;
  RETURN made;
END $$;

SELECT ensure_history_partitions(3);
"""

DROP_HISTORY = """
DROP TABLE event;
DROP TABLE log_chunk;
DROP FUNCTION ensure_history_partitions(integer);
DROP FUNCTION uuidv7_floor(timestamptz);
"""

# Hot tables turn over completely many times a minute, so vacuum goes by rows, not by shares; a task
# row is updated a few times, so its page keeps room for that.
STORAGE = """
ALTER TABLE task SET (fillfactor = 80);
ALTER TABLE ready SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
                       autovacuum_vacuum_insert_scale_factor = 0.2);
ALTER TABLE inflight SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0,
                          autovacuum_vacuum_threshold = 500);
ALTER TABLE backlog SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0,
                         autovacuum_vacuum_threshold = 200);
ALTER TABLE lane SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0,
                      autovacuum_vacuum_threshold = 500);
"""

LEADER = "INSERT INTO leader (name, epoch, holder, renewed_at) VALUES ('dispatcher', 0, '', 'epoch')"


class Migration(migrations.Migration):
    dependencies = [("tasks", "0001_initial")]

    operations = [
        migrations.RunSQL(GUARD, DROP_GUARD),
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunSQL(HISTORY, DROP_HISTORY)],
            state_operations=[
                migrations.CreateModel(
                    name='Event',
                    fields=[
                        ('pk', models.CompositePrimaryKey('task_id', 'seq', blank=True, editable=False, primary_key=True, serialize=False)),
                        ('task_id', models.UUIDField()),
                        ('seq', models.BigIntegerField()),
                        ('tenant_id', models.BigIntegerField()),
                        ('at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                        ('kind', models.CharField(max_length=10)),
                        ('run', models.IntegerField(null=True)),
                        ('data', models.JSONField(default=dict)),
                    ],
                    options={
                        'db_table': 'event',
                        'ordering': ('task_id', 'seq'),
                    },
                ),
                migrations.CreateModel(
                    name='LogChunk',
                    fields=[
                        ('pk', models.CompositePrimaryKey('task_id', 'seq', blank=True, editable=False, primary_key=True, serialize=False)),
                        ('task_id', models.UUIDField()),
                        ('seq', models.BigIntegerField()),
                        ('run', models.IntegerField()),
                        ('at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                        ('stream', models.CharField(max_length=6)),
                        ('first_line', models.BigIntegerField()),
                        ('lines', django.contrib.postgres.fields.ArrayField(base_field=models.TextField(), size=None)),
                        ('offsets', django.contrib.postgres.fields.ArrayField(base_field=models.IntegerField(), size=None)),
                    ],
                    options={
                        'db_table': 'log_chunk',
                        'ordering': ('task_id', 'seq'),
                    },
                ),
            ],
        ),
        migrations.RunSQL(STORAGE, migrations.RunSQL.noop),
        migrations.RunSQL(LEADER, "DELETE FROM leader"),
    ]
