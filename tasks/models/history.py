"""What happened: events and log chunks, numbered together per task.

Both tables are partitioned by range on ``task_id``. A UUIDv7 begins with its time, so that is a
partition by the time of submission, and the primary key ``(task_id, seq)`` is unique over all
partitions: the database itself guarantees that no number is given twice. Migration 0002 makes them.
"""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Now

KINDS = ("state", "progress", "error", "note")
"""Kinds of :class:`Event`; a :class:`LogChunk` is the event of kind ``log``."""

STREAMS = ("stdout", "stderr", "system")


class Event(models.Model):
    """One numbered fact about a task. ``run`` is the attempt's number, if it belongs to one."""

    pk = models.CompositePrimaryKey("task_id", "seq")
    task_id = models.UUIDField()
    seq = models.BigIntegerField()
    tenant_id = models.BigIntegerField()
    at = models.DateTimeField(db_default=Now())
    kind = models.CharField(max_length=10)
    run = models.IntegerField(null=True)
    data = models.JSONField(default=dict)

    class Meta:
        db_table = "event"
        ordering = ("task_id", "seq")

    def __str__(self) -> str:
        return f"{self.kind} {self.seq} of {self.task_id}"


class LogChunk(models.Model):
    """Lines of one stream of one run that were stored together; also the event ``seq``.

    ``lines[i]`` is line ``first_line + i`` of the run, over all its streams, and was read
    ``offsets[i]`` milliseconds after ``at``.
    """

    pk = models.CompositePrimaryKey("task_id", "seq")
    task_id = models.UUIDField()
    seq = models.BigIntegerField()
    run = models.IntegerField()
    at = models.DateTimeField(db_default=Now())
    stream = models.CharField(max_length=6)
    first_line = models.BigIntegerField()
    lines = ArrayField(models.TextField())
    offsets = ArrayField(models.IntegerField())

    class Meta:
        db_table = "log_chunk"
        ordering = ("task_id", "seq")

    def __str__(self) -> str:
        return f"lines {self.first_line} ff. of {self.task_id}"
