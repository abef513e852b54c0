"""Through which pool a task was sent, where that is not its queue's own."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("tasks", "0010_pools")]

    operations = [
        migrations.AddField(
            "inflight",
            "pool",
            # A dispatcher of the release before writes none, and lends nothing.
            models.CharField(max_length=10, null=True, db_collation="C"),
        ),
    ]
