"""How large the pools may be, and what each machine makes of it."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from tasks.models.task import QUEUE_CHOICES


class PoolBounds(models.Model):
    """The fewest and the most slots that a pool has on each machine, since an operator scaled it.

    Without a row each machine's own setting (``SWITCHYARD_POOLS``) holds.
    """

    queue = models.CharField(max_length=10, primary_key=True, choices=QUEUE_CHOICES, db_collation="C")
    least = models.SmallIntegerField()
    most = models.SmallIntegerField()
    version = models.IntegerField(default=0)
    changed_at = models.DateTimeField(db_default=Now())
    by = models.CharField(max_length=300)

    class Meta:
        db_table = "pool_bounds"
        verbose_name_plural = "pool bounds"
        constraints = (
            models.CheckConstraint(
                name="pool_bounds_in_order", condition=Q(least__gte=0, most__gte=F("least"))
            ),
        )

    def __str__(self) -> str:
        return f"{self.queue}: {self.least} to {self.most}"


class PoolMachine(models.Model):
    """What one machine does for one queue, as its pool manager last said, every few seconds.

    ``least`` and ``most`` are the bounds that it goes by, ``target`` the slots that the pool should
    have there now and ``why``. ``capacity_set``: by an operator, and not worked out from the cores.
    A machine that has no worker of a queue at the moment can still run its tasks, if ``most`` is above
    0: it will start one.
    """

    machine = models.CharField(max_length=200)
    queue = models.CharField(max_length=10, choices=QUEUE_CHOICES, db_collation="C")
    least = models.SmallIntegerField()
    most = models.SmallIntegerField()
    target = models.SmallIntegerField()
    why = models.CharField(max_length=200)
    capacity = models.IntegerField(help_text="slots of the machine, for all its pools together")
    capacity_set = models.BooleanField(default=False)
    types = models.JSONField(default=dict, help_text="name to version of the task types it can run")
    seen_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "pool_machine"
        constraints = (models.UniqueConstraint(fields=["machine", "queue"], name="pool_machine_once"),)

    def __str__(self) -> str:
        return f"{self.queue} on {self.machine}: {self.target} slots ({self.why})"
