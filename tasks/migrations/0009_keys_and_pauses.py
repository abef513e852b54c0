"""Who runs with a key, what is paused, and counters that are compared with what they count."""

from __future__ import annotations

import django.db.models.functions.datetime
from django.db import migrations, models

# Whoever writes a task's end frees its key; whoever pauses something changes the limits.
TRIGGERS = """
CREATE FUNCTION key_free() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM key_holder WHERE task_id = NEW.id;
  RETURN NULL;
END $$;

CREATE TRIGGER key_free AFTER UPDATE OF finished_at ON task
  FOR EACH ROW WHEN (NEW.key IS NOT NULL AND NEW.finished_at IS NOT NULL)
  EXECUTE FUNCTION key_free();

CREATE TRIGGER limits_changed AFTER INSERT OR UPDATE OR DELETE ON pause
  FOR EACH STATEMENT EXECUTE FUNCTION limits_changed();
"""

DROP_TRIGGERS = """
DROP TRIGGER limits_changed ON pause;
DROP TRIGGER key_free ON task;
DROP FUNCTION key_free();
"""

# The tasks that were let into line with a key before keys had holders.
HOLDERS = """
INSERT INTO key_holder (task_id, tenant_id, key, slot)
SELECT id, tenant_id, key, row_number() OVER (PARTITION BY tenant_id, key ORDER BY ordinal) - 1
  FROM task WHERE key IS NOT NULL AND status IN ('queued', 'running', 'retry_wait')
"""


class Migration(migrations.Migration):

    dependencies = [
        ('tasks', '0008_worker_handlers'),
    ]

    operations = [
        migrations.CreateModel(
            name='KeyHolder',
            fields=[
                ('task_id', models.UUIDField(primary_key=True, serialize=False)),
                ('tenant_id', models.BigIntegerField()),
                ('key', models.CharField(max_length=255)),
                ('slot', models.SmallIntegerField(default=0)),
            ],
            options={
                'db_table': 'key_holder',
            },
        ),
        migrations.CreateModel(
            name='Pause',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('subject', models.CharField(max_length=10)),
                ('name', models.CharField(max_length=100)),
                ('since', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('by', models.CharField(max_length=300)),
                ('reason', models.CharField(blank=True, max_length=1000)),
            ],
            options={
                'db_table': 'pause',
            },
        ),
        migrations.AddField(
            model_name='backlog',
            name='recounted_at',
            field=models.DateTimeField(db_default=django.db.models.functions.datetime.Now()),
        ),
        migrations.AddField(
            model_name='backlog',
            name='settled',
            field=models.BooleanField(db_default=False, default=False),
        ),
        migrations.AddField(
            model_name='parked',
            name='key',
            field=models.CharField(max_length=255, null=True),
        ),
        migrations.AddField(
            model_name='task',
            name='cancel_why',
            field=models.CharField(db_default='', default='', help_text='the status reason it will end with', max_length=30),
        ),
        migrations.AddIndex(
            model_name='parked',
            index=models.Index(fields=['tenant_id', 'queue'], name='parked_lane'),
        ),
        migrations.AddIndex(
            model_name='parked',
            index=models.Index(condition=models.Q(('key__isnull', False)), fields=['tenant_id', 'key', 'rank', 'ordinal'], name='parked_key'),
        ),
        migrations.AddConstraint(
            model_name='keyholder',
            constraint=models.UniqueConstraint(fields=('tenant_id', 'key', 'slot'), name='key_slot_once'),
        ),
        migrations.AddConstraint(
            model_name='pause',
            constraint=models.UniqueConstraint(fields=('subject', 'name'), name='pause_once'),
        ),
        migrations.AddConstraint(
            model_name='pause',
            constraint=models.CheckConstraint(condition=models.Q(('subject__in', ['queue', 'type'])), name='pause_subject'),
        ),
        migrations.RunSQL(HOLDERS, migrations.RunSQL.noop),
        migrations.RunSQL(TRIGGERS, DROP_TRIGGERS),
    ]
