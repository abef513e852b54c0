"""What operators have paused besides tenants: a queue, or a task type, for all tenants."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now


class Pause(models.Model):
    """The row is there while nothing of the queue or task type is dispatched; runs go on.

    A trigger (migration 0009) makes it a change of limits: no dispatch decided before is made after.
    """

    subject = models.CharField(max_length=10)
    name = models.CharField(max_length=100)
    since = models.DateTimeField(db_default=Now())
    by = models.CharField(max_length=300)
    reason = models.CharField(max_length=1000, blank=True)

    class Meta:
        db_table = "pause"
        constraints = (
            models.UniqueConstraint(fields=["subject", "name"], name="pause_once"),
            models.CheckConstraint(name="pause_subject", condition=Q(subject__in=["queue", "type"])),
        )

    def __str__(self) -> str:
        return f"{self.subject} {self.name} paused since {self.since}"
