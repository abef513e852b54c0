"""User names are unique whatever their case: ``Admin`` must not pass for ``admin`` in the trail."""

from __future__ import annotations

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("tenants", "0001_initial"),
        ("auth", "0012_alter_user_first_name_max_length"),
    ]

    operations = [
        migrations.RunSQL(
            "CREATE UNIQUE INDEX tenants_username_once ON auth_user (lower(username))",
            "DROP INDEX tenants_username_once",
        ),
    ]
