"""Bounds of pools, what machines make of them, and the demand that autoscalers read."""

from __future__ import annotations

import django.db.models.functions.datetime
from django.db import migrations, models

# `waiting` is what could start if there were a free slot: the first tasks of each lane that nothing
# holds. A lane that is at a limit, out of rate or paused would leave new slots idle. At most 10,000
# rows of `ready` are read for it and one probe per lane, however long the backlog is. `oldest_wait` is
# that of the task which was submitted first among those. One view, so that whoever may read it (an
# autoscaler) needs no right on any table.
DEMAND = """
CREATE VIEW pool_demand AS
SELECT q.queue, w.waiting,
       greatest(0, coalesce(extract(epoch FROM clock_timestamp() - w.oldest), 0))::float8 AS oldest_wait,
       (SELECT count(*) FROM inflight i WHERE i.queue = q.queue AND i.state = 'dispatched')::integer
         AS dispatched,
       (SELECT count(*) FROM inflight i WHERE i.queue = q.queue AND i.state = 'running')::integer
         AS running,
       (SELECT coalesce(sum(k.slots), 0) FROM worker k WHERE k.queue = q.queue AND k.status = 'alive'
           AND k.seen_at > clock_timestamp() - interval '10 seconds')::integer AS slots,
       (SELECT count(*) FROM pool_machine m WHERE m.queue = q.queue
           AND m.seen_at > clock_timestamp() - interval '10 seconds')::integer AS machines
  FROM (VALUES ('critical'::text), ('normal'), ('batch')) q(queue)
 CROSS JOIN LATERAL (
   WITH RECURSIVE line AS (
     (SELECT tenant_id FROM ready WHERE queue = q.queue ORDER BY tenant_id LIMIT 1)
     UNION ALL
     SELECT (SELECT r.tenant_id FROM ready r WHERE r.queue = q.queue AND r.tenant_id > line.tenant_id
              ORDER BY r.tenant_id LIMIT 1)
       FROM line WHERE line.tenant_id IS NOT NULL
   ), free AS MATERIALIZED (
     SELECT head.task_id, head.ordinal
       FROM line
      CROSS JOIN LATERAL (
        SELECT r.task_id, r.ordinal FROM ready r
         WHERE r.queue = q.queue AND r.tenant_id = line.tenant_id
         ORDER BY r.rank, r.ordinal LIMIT 10000) head
      WHERE NOT EXISTS (SELECT 1 FROM lane l WHERE l.tenant_id = line.tenant_id
                           AND l.queue = q.queue AND l.waiting_for <> '')
        AND NOT EXISTS (SELECT 1 FROM pause p WHERE p.subject = 'queue' AND p.name = q.queue)
      LIMIT 10000
   )
   SELECT (SELECT count(*) FROM free)::integer AS waiting,
          (SELECT t.queued_at FROM task t
            WHERE t.id = (SELECT f.task_id FROM free f ORDER BY f.ordinal LIMIT 1)) AS oldest
 ) w;
"""


class Migration(migrations.Migration):
    dependencies = [("tasks", "0009_keys_and_pauses")]

    operations = [
        migrations.CreateModel(
            name='PoolBounds',
            fields=[
                ('queue', models.CharField(choices=[('critical', 'critical'), ('normal', 'normal'), ('batch', 'batch')], db_collation='C', max_length=10, primary_key=True, serialize=False)),
                ('least', models.SmallIntegerField()),
                ('most', models.SmallIntegerField()),
                ('version', models.IntegerField(default=0)),
                ('changed_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('by', models.CharField(max_length=300)),
            ],
            options={
                'verbose_name_plural': 'pool bounds',
                'db_table': 'pool_bounds',
                'constraints': [models.CheckConstraint(condition=models.Q(('least__gte', 0), ('most__gte', models.F('least'))), name='pool_bounds_in_order')],
            },
        ),
        migrations.CreateModel(
            name='PoolMachine',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('machine', models.CharField(max_length=200)),
                ('queue', models.CharField(choices=[('critical', 'critical'), ('normal', 'normal'), ('batch', 'batch')], db_collation='C', max_length=10)),
                ('least', models.SmallIntegerField()),
                ('most', models.SmallIntegerField()),
                ('target', models.SmallIntegerField()),
                ('why', models.CharField(max_length=200)),
                ('capacity', models.IntegerField(help_text='slots of the machine, for all its pools together')),
                ('capacity_set', models.BooleanField(default=False)),
                ('types', models.JSONField(default=dict, help_text='name to version of the task types it can run')),
                ('seen_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
            options={
                'db_table': 'pool_machine',
                'constraints': [models.UniqueConstraint(fields=('machine', 'queue'), name='pool_machine_once')],
            },
        ),
        migrations.RunSQL(DEMAND, "DROP VIEW pool_demand"),
    ]
