"""When a type's batch work may start, rules that choose a task's queue, and how long types last."""

from __future__ import annotations

import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models

# Whoever changes when a type may start changes the limits: no dispatch decided before is made after.
# Rules are known by the same number, so that a submission need not read them to see that none changed.
TRIGGERS = """
CREATE TRIGGER limits_changed AFTER UPDATE OF windows ON task_type
  FOR EACH STATEMENT EXECUTE FUNCTION limits_changed();
CREATE TRIGGER limits_changed AFTER INSERT OR UPDATE OR DELETE ON route
  FOR EACH STATEMENT EXECUTE FUNCTION limits_changed();
"""

DROP_TRIGGERS = """
DROP TRIGGER limits_changed ON route;
DROP TRIGGER limits_changed ON task_type;
"""


class Migration(migrations.Migration):

    dependencies = [
        ('tasks', '0011_lent_slots'),
        ('tenants', '0004_dispatch_limits'),
    ]

    operations = [
        migrations.AddField(
            model_name='tasktype',
            name='windows',
            field=models.JSONField(help_text="outside them its batch tasks are not started", null=True),
        ),
        migrations.CreateModel(
            name='Estimate',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('type_id', models.IntegerField()),
                ('tenant_id', models.BigIntegerField(default=0)),
                ('seconds', models.FloatField()),
                ('updated_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
            options={
                'db_table': 'estimate',
            },
        ),
        migrations.CreateModel(
            name='Route',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=50, unique=True)),
                ('position', models.IntegerField(default=0)),
                ('type', models.CharField(max_length=100, null=True)),
                ('labels', models.JSONField(default=dict)),
                ('over', models.FloatField(help_text='seconds', null=True)),
                ('under', models.FloatField(help_text='seconds', null=True)),
                ('queue', models.CharField(choices=[('critical', 'critical'), ('normal', 'normal'), ('batch', 'batch')], max_length=10)),
                ('by', models.CharField(max_length=300)),
                ('updated_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('version', models.PositiveBigIntegerField(default=1)),
                ('tenant', models.ForeignKey(null=True, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tenants.tenant')),
            ],
            options={
                'db_table': 'route',
                'ordering': ('position', 'name'),
            },
        ),
        migrations.AddConstraint(
            model_name='estimate',
            constraint=models.UniqueConstraint(fields=('type_id', 'tenant_id'), name='estimate_once'),
        ),
        migrations.AddConstraint(
            model_name='route',
            constraint=models.CheckConstraint(condition=models.Q(('queue__in', ['critical', 'normal', 'batch'])), name='route_queue_known'),
        ),
        migrations.RunSQL(TRIGGERS, DROP_TRIGGERS),
    ]
