"""A lease changes with every claim and renewal, which without this index are updates in place.

The release before reads the few rows of the table in its order all the same.
"""

from __future__ import annotations

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("tasks", "0012_windows_and_routes")]

    operations = [migrations.RemoveIndex(model_name="inflight", name="inflight_lease")]
