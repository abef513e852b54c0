"""Files of a task: rows that say which bytes exist, and rows of bytes that must go."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from tasks.models.task import Task, new_id

INPUT, ARTIFACT = "input", "artifact"


class TaskFile(models.Model):
    """One complete file: an input that was uploaded, or an artifact that a run left.

    Its content is in the storage ``files`` under ``storage_key`` before the row exists. When a row
    is deleted, by whomever, a trigger of migration 0004 puts its key into :class:`FileRemoval`.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    # The constraint is made by migration 0004, so that the database itself deletes files with tasks.
    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="files", db_constraint=False)
    kind = models.CharField(max_length=8, choices=[(INPUT, INPUT), (ARTIFACT, ARTIFACT)])
    run = models.IntegerField(null=True, help_text="the attempt that left an artifact")
    name = models.CharField(max_length=500)
    size = models.BigIntegerField(help_text="bytes")
    sha256 = models.CharField(max_length=64)
    media_type = models.CharField(max_length=255)
    storage_key = models.CharField(max_length=100, unique=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        db_table = "task_file"
        ordering = ("-id",)
        constraints = (
            models.UniqueConstraint(
                fields=["task", "name"], name="task_file_input_once", condition=Q(kind=INPUT)
            ),
            # An attempt that stores again what it has stored meets this.
            models.UniqueConstraint(
                fields=["task", "run", "name"],
                name="task_file_artifact_once",
                condition=Q(kind=ARTIFACT),
            ),
            models.CheckConstraint(
                name="task_file_run_of_artifact",
                condition=Q(kind=INPUT, run__isnull=True) | Q(kind=ARTIFACT, run__isnull=False),
            ),
        )
        # The list of a task's artifacts, newest first.
        indexes = (models.Index(fields=["task", "kind", "-id"], name="task_file_list"),)

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


class FileRemoval(models.Model):
    """Content to remove from storage from ``due_at`` on.

    Written before content is: whoever stores a file takes this row away in the transaction that
    makes the file's own, so bytes that a crash leaves behind are found without listing the storage.
    """

    storage_key = models.CharField(max_length=100, primary_key=True)
    due_at = models.DateTimeField()

    class Meta:
        db_table = "file_removal"
        indexes = (models.Index(fields=["due_at"], name="file_removal_due"),)

    def __str__(self) -> str:
        return self.storage_key
