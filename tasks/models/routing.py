"""What operators and the past say about a task's queue: rules, and how long types last."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from tasks.models.task import QUEUE_CHOICES
from tasks.states import Queue


class Route(models.Model):
    """A rule that puts what it matches into a queue, see :mod:`tasks.routing`.

    The first that matches has the last word, in the order of ``position``, then ``name``. Null (or no
    label) asks for nothing. A trigger (migration 0012) makes each change one of the limits' revision, by
    which processes that submit know that they must read the rules again.
    """

    name = models.CharField(max_length=50, unique=True)
    position = models.IntegerField(default=0)
    tenant = models.ForeignKey("tenants.Tenant", models.CASCADE, null=True, related_name="+")
    type = models.CharField(max_length=100, null=True)  # noqa: DJ001 - null: any type
    labels = models.JSONField(default=dict)
    over = models.FloatField(null=True, help_text="seconds")
    under = models.FloatField(null=True, help_text="seconds")
    queue = models.CharField(max_length=10, choices=QUEUE_CHOICES)
    by = models.CharField(max_length=300)
    updated_at = models.DateTimeField(db_default=Now())
    version = models.PositiveBigIntegerField(default=1)

    class Meta:
        db_table = "route"
        ordering = ("position", "name")
        constraints = (
            models.CheckConstraint(
                name="route_queue_known", condition=Q(queue__in=[q.value for q in Queue])
            ),
        )

    def __str__(self) -> str:
        return f"{self.name} to {self.queue}"


class Estimate(models.Model):
    """How long a run of a type takes: of one tenant's tasks, or of all (``tenant_id`` 0).

    A moving average that the leading dispatcher writes at most once a second
    (:mod:`workers.dispatcher.lengths`). It is narrow and apart from the type, so that learning from
    runs makes nobody read a type anew.
    """

    type_id = models.IntegerField()
    tenant_id = models.BigIntegerField(default=0)
    seconds = models.FloatField()
    updated_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "estimate"
        constraints = (
            # "How long will this take?", asked with each forecast and by rules that go by length.
            models.UniqueConstraint(fields=["type_id", "tenant_id"], name="estimate_once"),
        )

    def __str__(self) -> str:
        return f"type {self.type_id}, tenant {self.tenant_id or 'all'}: {self.seconds:.3f} s"
