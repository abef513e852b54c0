"""Where each worker has its handlers: the row of a task type tells it of the newest one only."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("tasks", "0007_versions_maintenance_results")]

    operations = [
        migrations.AddField(
            "worker",
            "handlers",
            # Workers of the release before do not write it.
            models.JSONField(
                default=dict, db_default={}, help_text="name to module:function, as this worker has it"
            ),
        ),
    ]
