"""When a tenant's batch work may start."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('tenants', '0004_dispatch_limits'),
    ]

    operations = [
        migrations.AddField(
            model_name='limit',
            name='windows',
            field=models.JSONField(blank=True, null=True),
        ),
        migrations.AddConstraint(
            model_name='limit',
            constraint=models.CheckConstraint(
                condition=models.Q(('windows__isnull', True), ('queue', 'batch'), _connector='OR'),
                name='limit_windows_of_batch',
            ),
        ),
    ]
