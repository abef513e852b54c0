"""One number that changes with every limit and pause, kept by triggers so that no writer forgets."""

from __future__ import annotations

from django.db import migrations, models

TRIGGERS = """
INSERT INTO limits_revision (revision) VALUES (1);

CREATE FUNCTION limits_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  UPDATE limits_revision SET revision = revision + 1;
  RETURN NULL;
END $$;

CREATE TRIGGER limits_changed AFTER INSERT OR UPDATE OR DELETE ON tenants_limit
  FOR EACH STATEMENT EXECUTE FUNCTION limits_changed();
CREATE TRIGGER limits_changed AFTER UPDATE OF paused ON tenants_tenant
  FOR EACH STATEMENT EXECUTE FUNCTION limits_changed();
"""

DROP_TRIGGERS = """
DROP TRIGGER limits_changed ON tenants_limit;
DROP TRIGGER limits_changed ON tenants_tenant;
DROP FUNCTION limits_changed();
"""


class Migration(migrations.Migration):
    dependencies = [
        ("tasks", "0002_guards_and_history"),
        ("tenants", "0002_username_once"),
    ]

    operations = [
        migrations.CreateModel(
            name="LimitsRevision",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("revision", models.BigIntegerField(default=0)),
            ],
            options={"db_table": "limits_revision"},
        ),
        migrations.RunSQL(TRIGGERS, DROP_TRIGGERS),
    ]
