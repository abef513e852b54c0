"""Files of tasks. Rows go with their task, and content goes with its row, whoever deletes it."""

from __future__ import annotations

import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models

import tasks.models.task

REMOVAL = """
ALTER TABLE task_file ADD CONSTRAINT task_file_task_fk
  FOREIGN KEY (task_id) REFERENCES task (id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED;

CREATE FUNCTION task_file_removed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO file_removal (storage_key, due_at) VALUES (OLD.storage_key, now())
    ON CONFLICT (storage_key) DO UPDATE SET due_at = excluded.due_at;
  RETURN NULL;
END $$;

CREATE TRIGGER task_file_removed AFTER DELETE ON task_file
  FOR EACH ROW EXECUTE FUNCTION task_file_removed();
"""

DROP_REMOVAL = """
DROP TRIGGER task_file_removed ON task_file;
DROP FUNCTION task_file_removed();
ALTER TABLE task_file DROP CONSTRAINT task_file_task_fk;
"""


class Migration(migrations.Migration):
    dependencies = [("tasks", "0003_limits_revision")]

    operations = [
        migrations.CreateModel(
            name="FileRemoval",
            fields=[
                ("storage_key", models.CharField(max_length=100, primary_key=True, serialize=False)),
                ("due_at", models.DateTimeField()),
            ],
            options={
                "db_table": "file_removal",
                "indexes": [models.Index(fields=["due_at"], name="file_removal_due")],
            },
        ),
        migrations.CreateModel(
            name="TaskFile",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=tasks.models.task.new_id,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                (
                    "kind",
                    models.CharField(
                        choices=[("input", "input"), ("artifact", "artifact")], max_length=8
                    ),
                ),
                (
                    "run",
                    models.IntegerField(help_text="the attempt that left an artifact", null=True),
                ),
                ("name", models.CharField(max_length=500)),
                ("size", models.BigIntegerField(help_text="bytes")),
                ("sha256", models.CharField(max_length=64)),
                ("media_type", models.CharField(max_length=255)),
                ("storage_key", models.CharField(max_length=100, unique=True)),
                (
                    "created_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), editable=False
                    ),
                ),
                (
                    "task",
                    models.ForeignKey(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="files",
                        to="tasks.task",
                    ),
                ),
            ],
            options={
                "db_table": "task_file",
                "ordering": ("-id",),
                "indexes": [models.Index(fields=["task", "kind", "-id"], name="task_file_list")],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("kind", "input")),
                        fields=("task", "name"),
                        name="task_file_input_once",
                    ),
                    models.UniqueConstraint(
                        condition=models.Q(("kind", "artifact")),
                        fields=("task", "run", "name"),
                        name="task_file_artifact_once",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("kind", "input"), ("run__isnull", True))
                        | models.Q(("kind", "artifact"), ("run__isnull", False)),
                        name="task_file_run_of_artifact",
                    ),
                ],
            },
        ),
        migrations.RunSQL(REMOVAL, DROP_REMOVAL),
    ]
