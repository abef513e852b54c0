"""Versions of task types, maintenance mode, expiring results, and a way back to ``scheduled``."""

from __future__ import annotations

from django.db import migrations, models
from django.db.models.functions import Now

# As in migration 0002, but that a cancelled descendant may come back before its own start time.
TRANSITIONS = {
    "allocated": ["scheduled", "blocked", "queued", "cancelled", "dropped"],
    "scheduled": ["blocked", "queued", "cancelled", "dropped"],
    "blocked": ["queued", "cancelled", "dropped"],
    "queued": ["running", "cancelled", "dropped"],
    "running": ["retry_wait", "queued", "completed", "failed", "cancelled", "dropped"],
    "retry_wait": ["queued", "cancelled", "dropped"],
    "failed": ["queued", "blocked"],
    "cancelled": ["queued", "blocked", "scheduled"],
    "dropped": ["queued", "blocked"],
}


def guard(transitions: dict[str, list[str]]) -> str:
    """Return the function behind the trigger of migration 0002, for a table of transitions."""
    cases = "\n".join(
        f"      WHEN '{before}' THEN NEW.status IN ({', '.join(repr(s) for s in after)})"
        for before, after in transitions.items()
    )
    return f"""
CREATE OR REPLACE FUNCTION task_guard_update() RETURNS trigger LANGUAGE plpgsql AS $$
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
{cases}
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
"""


WITHOUT_THE_WAY_BACK = TRANSITIONS | {"cancelled": ["queued", "blocked"]}

# Workers publish {name: version}; those of the release before, a list of names, which is version 1.
WORKER_RUNS = """
CREATE FUNCTION worker_runs(types jsonb, name text) RETURNS integer LANGUAGE sql IMMUTABLE AS $$
  SELECT CASE WHEN jsonb_typeof(types) = 'object' THEN (types ->> name)::integer
              WHEN types ? name THEN 1 END
$$;
"""

# How long the oldest month that is kept lasts is the operator's choice. A month in which a task of
# it is still alive stays: its events are what rebuilds that task.
DROP_PARTITIONS = """
CREATE FUNCTION drop_history_partitions(before timestamptz) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
  child record;
  month timestamptz;
  after timestamptz;
  dropped integer := 0;
BEGIN
  PERFORM pg_advisory_xact_lock(hashtextextended('ensure_history_partitions', 0));
  FOR child IN
    SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
     WHERE i.inhparent IN ('event'::regclass, 'log_chunk'::regclass)
       AND c.relname ~ '^(event|log_chunk)_[0-9]{4}_[0-9]{2}$'
     ORDER BY c.relname
  LOOP
    month := to_timestamp(right(child.relname, 7) || ' +00', 'YYYY_MM TZH');
    after := ((month AT TIME ZONE 'UTC') + interval '1 month') AT TIME ZONE 'UTC';
    IF after <= before AND NOT EXISTS (
      SELECT 1 FROM task WHERE finished_at IS NULL
         AND id >= uuidv7_floor(month) AND id < uuidv7_floor(after)) THEN
      EXECUTE format('DROP TABLE %I', child.relname);
      dropped := dropped + 1;
    END IF;
  END LOOP;
  RETURN dropped;
END $$;
"""


def _version(model: str, name: str, help_text: str = "") -> migrations.AddField:
    """A column that the release before, which does not know it, may leave out."""
    return migrations.AddField(
        model, name, models.IntegerField(default=1, db_default=1, help_text=help_text)
    )


class Migration(migrations.Migration):
    dependencies = [("tasks", "0006_worker_drain")]

    operations = [
        _version(
            "tasktype",
            "version",
            "grows when older workers cannot run what is submitted now",
        ),
        _version(
            "task",
            "type_version",
            "of its type when it was submitted; a worker needs at least it",
        ),
        _version("ready", "type_version"),
        _version("parked", "type_version"),
        _version("inflight", "type_version"),
        migrations.AlterField(
            "worker",
            "types",
            models.JSONField(default=dict, help_text="name to version of the task types it can run"),
        ),
        migrations.CreateModel(
            name="Maintenance",
            fields=[
                ("id", models.SmallIntegerField(default=1, primary_key=True, serialize=False)),
                ("since", models.DateTimeField(db_default=Now())),
                ("by", models.CharField(max_length=300)),
                ("reason", models.CharField(blank=True, max_length=1000)),
            ],
            options={"db_table": "maintenance", "verbose_name_plural": "maintenance"},
        ),
        migrations.AddConstraint(
            "maintenance",
            models.CheckConstraint(condition=models.Q(id=1), name="maintenance_once"),
        ),
        migrations.AddIndex(
            "task",
            models.Index(
                fields=["finished_at"],
                name="task_result_age",
                condition=models.Q(result__isnull=False),
            ),
        ),
        migrations.RunSQL(guard(TRANSITIONS), guard(WITHOUT_THE_WAY_BACK)),
        migrations.RunSQL(WORKER_RUNS, "DROP FUNCTION worker_runs(jsonb, text)"),
        migrations.RunSQL(DROP_PARTITIONS, "DROP FUNCTION drop_history_partitions(timestamptz)"),
    ]
