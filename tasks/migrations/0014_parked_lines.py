"""Parked tasks come back in batches, in the order of their lanes.

The release before finds its way by the new index too: it begins as the old one did.
"""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("tasks", "0013_inflight_without_lease_index")]

    operations = [
        migrations.AddIndex(
            model_name="parked",
            index=models.Index(
                fields=["reason", "type_id", "type_version", "queue", "tenant_id", "rank", "ordinal"],
                name="parked_line",
            ),
        ),
        migrations.RemoveIndex(model_name="parked", name="parked_reason"),
    ]
