"""Who can do what: workers announce themselves and the task types they can run."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now

from tasks.models.task import QUEUE_CHOICES

WORKER_STATUSES = ("alive", "draining", "lost", "gone")


class TaskType(models.Model):
    """A named kind of work, as the newest worker that can run it described it.

    ``windows`` is the operators' (:mod:`tenants.windows`); a trigger (migration 0012) makes it a change
    of limits.
    """

    id = models.AutoField(primary_key=True)
    name = models.CharField(max_length=100, unique=True)
    title = models.CharField(max_length=200, default="")
    description = models.TextField(default="")
    queue = models.CharField(max_length=10, choices=QUEUE_CHOICES)
    params_schema = models.JSONField(default=dict)
    version = models.IntegerField(
        default=1, db_default=1, help_text="grows when older workers cannot run what is submitted now"
    )
    handler = models.CharField(max_length=300, help_text="module:function")
    cancellable = models.BooleanField(default=True)
    idempotent = models.BooleanField(default=False)
    preemptible = models.BooleanField(default=False)
    steering = models.BooleanField(default=False)
    network = models.BooleanField(default=False, help_text="may ask for the network")
    time_limit = models.FloatField(default=900, help_text="seconds")
    max_retries = models.SmallIntegerField(default=0)
    retry = models.JSONField(default=dict)
    limits = models.JSONField(default=dict)
    secrets = models.JSONField(default=list)
    needs = models.JSONField(default=list)
    on_loss = models.CharField(max_length=10, default="retry")
    on_shutdown = models.CharField(max_length=10, default="requeue")
    test_only = models.BooleanField(default=False)
    windows = models.JSONField(null=True, help_text="outside them its batch tasks are not started")
    updated_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "task_type"
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name


class Worker(models.Model):
    """One worker process of one pool; the pool manager of its machine keeps this row."""

    id = models.UUIDField(primary_key=True)
    name = models.CharField(max_length=200)
    queue = models.CharField(max_length=10, choices=QUEUE_CHOICES)
    machine = models.CharField(max_length=200)
    host = models.CharField(max_length=200)
    pid = models.IntegerField()
    slots = models.IntegerField()
    busy = models.IntegerField(default=0)
    isolation = models.CharField(max_length=10)
    version = models.CharField(max_length=50)
    types = models.JSONField(default=dict, help_text="name to version of the task types it can run")
    handlers = models.JSONField(
        default=dict, db_default={}, help_text="name to module:function, as this worker has it"
    )
    status = models.CharField(max_length=10, default="alive")
    started_at = models.DateTimeField(db_default=Now())
    seen_at = models.DateTimeField(db_default=Now())
    gone_at = models.DateTimeField(null=True)
    drain_requested_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "worker"
        ordering = ("queue", "name")

    def __str__(self) -> str:
        return f"{self.name} ({self.status})"
