"""Two more limits of a tenant: started tasks a second, and tasks at once with one key."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('tenants', '0003_keep_an_owner'),
    ]

    operations = [
        migrations.AddField(
            model_name='limit',
            name='dispatch_per_second',
            field=models.FloatField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='limit',
            name='running_per_key',
            field=models.PositiveSmallIntegerField(blank=True, null=True),
        ),
    ]
