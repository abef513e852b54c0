"""A user who is a tenant's last owner cannot be deleted; a rule of Django's, not of the database's."""

from __future__ import annotations

from django.conf import settings
from django.db import migrations, models

import tenants.models


class Migration(migrations.Migration):
    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
        ("tenants", "0002_username_once"),
    ]

    operations = [
        migrations.AlterField(
            model_name="membership",
            name="user",
            field=models.ForeignKey(
                on_delete=tenants.models.keep_an_owner,
                related_name="memberships",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
    ]
