"""Maintenance mode: one row while the operators have stopped the intake of tasks."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now


class Maintenance(models.Model):
    """The row is there while no tasks are taken; ``by`` and ``reason`` say who wanted it and why."""

    id = models.SmallIntegerField(primary_key=True, default=1)
    since = models.DateTimeField(db_default=Now())
    by = models.CharField(max_length=300)
    reason = models.CharField(max_length=1000, blank=True)

    class Meta:
        db_table = "maintenance"
        verbose_name_plural = "maintenance"
        constraints = (models.CheckConstraint(name="maintenance_once", condition=Q(id=1)),)

    def __str__(self) -> str:
        return f"maintenance since {self.since}"
