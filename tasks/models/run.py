"""The run: one attempt at a task, made when a worker claims it."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from tasks.models.task import RUN_STATUS_CHOICES, Task, new_id
from tasks.states import RunStatus


class Run(models.Model):
    """One attempt, with its own output, error and resources.

    ``epoch`` fences it: it is the only attempt of that epoch, and at most one run of a task is live.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="runs")
    attempt = models.IntegerField()
    life = models.SmallIntegerField(default=1)
    epoch = models.IntegerField()
    status = models.CharField(max_length=10, choices=RUN_STATUS_CHOICES)
    worker = models.UUIDField(null=True, help_text="the worker process, see Worker")
    machine = models.CharField(max_length=200, default="")
    isolation = models.CharField(max_length=10, default="")
    pid = models.IntegerField(null=True, help_text="the supervisor's")
    started_at = models.DateTimeField(db_default=Now())
    finished_at = models.DateTimeField(null=True)
    progress_percent = models.FloatField(default=0)
    progress_step = models.CharField(max_length=500, default="")
    exit_code = models.IntegerField(null=True)
    signal = models.CharField(max_length=20, null=True)  # noqa: DJ001 - null: no signal
    error = models.JSONField(null=True)
    result = models.JSONField(null=True)
    cpu_seconds = models.FloatField(null=True)
    max_rss_bytes = models.BigIntegerField(null=True)
    wall_seconds = models.FloatField(null=True)
    log_bytes = models.BigIntegerField(default=0)
    log_lines = models.BigIntegerField(default=0)
    log_truncated = models.BooleanField(default=False)

    class Meta:
        db_table = "run"
        ordering = ("attempt",)
        constraints = (
            models.UniqueConstraint(fields=["task", "attempt"], name="run_attempt_once"),
            models.UniqueConstraint(fields=["task", "epoch"], name="run_epoch_once"),
            models.UniqueConstraint(
                fields=["task"], name="run_one_live", condition=Q(status=RunStatus.RUNNING.value)
            ),
            models.CheckConstraint(
                name="run_ended_means_finished",
                condition=Q(status=RunStatus.RUNNING.value, finished_at__isnull=True)
                | (~Q(status=RunStatus.RUNNING.value) & Q(finished_at__isnull=False)),
            ),
            models.CheckConstraint(
                name="run_started_before_finished",
                condition=Q(finished_at__isnull=True) | Q(started_at__lte=F("finished_at")),
            ),
        )

    def __str__(self) -> str:
        return f"run {self.attempt} of {self.task_id}"
