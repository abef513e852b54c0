"""An operator may ask a worker to drain."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("tasks", "0005_list_indexes")]

    operations = [
        migrations.AddField(
            model_name="worker", name="drain_requested_at", field=models.DateTimeField(null=True)
        ),
    ]
