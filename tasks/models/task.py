"""The task: one request for work, a row that lives through all its attempts."""

from __future__ import annotations

import uuid

from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models import F, Func, Q, Value
from django.db.models.functions import Now
from uuid_utils.compat import uuid7

from tasks.states import TERMINAL, Queue, RunStatus, Status

STATUS_CHOICES = [(status.value, status.value) for status in Status]
QUEUE_CHOICES = [(queue.value, queue.value) for queue in Queue]
RUN_STATUS_CHOICES = [(status.value, status.value) for status in RunStatus]


def new_id() -> uuid.UUID:
    """Return a UUIDv7: ids of one process rise, and so does time over all of them.

    The partitions of events and logs rest on that order (see migration 0002).
    """
    return uuid7()


class Task(models.Model):
    """One request for work.

    Its status changes only along :data:`tasks.states.TRANSITIONS`; a trigger refuses anything
    else, a change without its event, and a second end in one life. ``epoch`` is that of the newest
    claimed attempt: a write that carries an older one is refused.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    ordinal = models.BigIntegerField(
        unique=True,
        editable=False,
        db_default=Func(Value("task_ordinal"), function="nextval"),
        help_text="Order of submission; first in, first out within a lane",
    )
    tenant = models.ForeignKey("tenants.Tenant", on_delete=models.PROTECT, related_name="+")
    type = models.CharField(max_length=100)
    type_version = models.IntegerField(
        default=1,
        db_default=1,
        help_text="of its type when it was submitted; a worker needs at least it",
    )
    queue = models.CharField(max_length=10, choices=QUEUE_CHOICES)
    priority = models.SmallIntegerField(default=0)

    status = models.CharField(max_length=10, choices=STATUS_CHOICES)
    status_reason = models.CharField(max_length=100, null=True)  # noqa: DJ001 - null: no reason
    life = models.SmallIntegerField(default=1, help_text="1, and one more for each explicit retry")
    attempt = models.IntegerField(default=0)
    epoch = models.IntegerField(default=0)
    last_seq = models.BigIntegerField(default=0)

    params = models.JSONField(default=dict)
    labels = models.JSONField(default=dict)
    key = models.CharField(max_length=255, null=True)  # noqa: DJ001 - null: no key
    key_policy = models.CharField(max_length=10, default="reject")
    on_parent_failure = models.CharField(max_length=10, default="cancel")
    idempotent = models.BooleanField(default=False)
    preemptible = models.BooleanField(default=False)
    max_retries = models.SmallIntegerField(default=0)
    retry = models.JSONField(default=dict)
    time_limit = models.FloatField(null=True, help_text="seconds")
    queue_timeout = models.FloatField(null=True, help_text="seconds")
    limits = models.JSONField(default=dict)
    inputs = models.JSONField(default=list)
    secrets = models.JSONField(default=list, help_text="names, never values")

    submitted_by = models.CharField(max_length=300)
    submitter = models.CharField(
        max_length=50, help_text="the submitter's Actor.key: unlike the name it is never given again"
    )
    request_id = models.CharField(max_length=128, default="")
    schedule_id = models.UUIDField(null=True)
    cancel_requested_at = models.DateTimeField(null=True)
    cancel_requested_by = models.CharField(max_length=300, default="")
    cancel_reason = models.CharField(max_length=1000, default="")
    cancel_why = models.CharField(
        max_length=30, default="", db_default="", help_text="the status reason it will end with"
    )
    consumed_at = models.DateTimeField(null=True)

    failures = models.SmallIntegerField(default=0)
    losses = models.SmallIntegerField(default=0)
    crashes = models.SmallIntegerField(default=0)
    restarts = models.SmallIntegerField(default=0)
    preemptions = models.SmallIntegerField(default=0)

    progress_percent = models.FloatField(default=0)
    progress_step = models.CharField(max_length=500, default="")
    checkpoint = models.JSONField(null=True)
    result = models.JSONField(null=True)
    result_expired = models.BooleanField(default=False)
    error = models.JSONField(null=True)

    created_at = models.DateTimeField(db_default=Now(), editable=False)
    scheduled_for = models.DateTimeField(null=True)
    queued_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    next_retry_at = models.DateTimeField(null=True)
    deadline_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "task"
        ordering = ("-ordinal",)
        constraints = (
            models.CheckConstraint(
                name="task_terminal_means_finished",
                condition=Q(status__in=sorted(TERMINAL), finished_at__isnull=False)
                | (~Q(status__in=sorted(TERMINAL)) & Q(finished_at__isnull=True)),
            ),
            models.CheckConstraint(
                name="task_status_known", condition=Q(status__in=[s.value for s in Status])
            ),
            models.CheckConstraint(
                name="task_queue_known", condition=Q(queue__in=[q.value for q in Queue])
            ),
            models.CheckConstraint(
                name="task_priority_range", condition=Q(priority__gte=-100, priority__lte=100)
            ),
            models.CheckConstraint(
                name="task_started_before_finished",
                condition=Q(started_at__isnull=True)
                | Q(finished_at__isnull=True)
                | Q(started_at__lte=F("finished_at")),
            ),
        )
        indexes = (
            # The task list and its most common filters, newest first.
            models.Index(fields=["tenant", "-ordinal"], name="task_list"),
            models.Index(fields=["tenant", "status", "-ordinal"], name="task_by_status"),
            models.Index(fields=["tenant", "type", "-ordinal"], name="task_by_type"),
            models.Index(fields=["tenant", "submitted_by", "-ordinal"], name="task_by_submitter"),
            models.Index(
                fields=["tenant", "schedule_id", "-ordinal"],
                name="task_by_schedule",
                condition=Q(schedule_id__isnull=False),
            ),
            models.Index(
                fields=["tenant", "key", "-ordinal"], name="task_by_key", condition=Q(key__isnull=False)
            ),
            models.Index(
                fields=["tenant", "-ordinal"],
                name="task_cancel_requested",
                condition=Q(cancel_requested_at__isnull=False),
            ),
            # Where in the order of submission a time lies, for every filter by time.
            models.Index(fields=["created_at"], name="task_by_creation"),
            # "What has started, or ended, since …" where that is little or nothing.
            models.Index(fields=["tenant", "started_at"], name="task_by_start"),
            models.Index(fields=["tenant", "finished_at"], name="task_by_finish"),
            # Both a label with its value (@>) and a label's key alone (?).
            GinIndex(fields=["labels"], name="task_labels"),
            # Whose result is older than results are kept?
            models.Index(
                fields=["finished_at"],
                name="task_result_age",
                condition=Q(result__isnull=False),
            ),
            # "Is a task with this key still active?", asked by each submit that names a key.
            models.Index(
                fields=["tenant", "key"],
                name="task_active_key",
                condition=Q(key__isnull=False, finished_at__isnull=True),
            ),
        )

    def __str__(self) -> str:
        return f"{self.type} {self.id}"


class Dependency(models.Model):
    """``child`` waits for ``parent``; both belong to the same tenant.

    A child names parents that exist already, so its ordinal is the higher one and no cycle can be.
    """

    child = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="dependencies")
    parent = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="dependents")

    class Meta:
        db_table = "dependency"
        verbose_name_plural = "dependencies"
        constraints = (
            models.UniqueConstraint(fields=["child", "parent"], name="dependency_once"),
            models.CheckConstraint(name="dependency_not_on_itself", condition=~Q(child=F("parent"))),
        )

    def __str__(self) -> str:
        return f"{self.child_id} after {self.parent_id}"
