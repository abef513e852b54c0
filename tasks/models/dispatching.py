"""The hot tables of dispatching: narrow, without payload or history, and deleted as work moves on.

``rank`` is the negative of a task's priority, so that one ascending index gives a lane's order.
"""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now


class Ready(models.Model):
    """A task that may start now: one row from *queued* until it is dispatched.

    ``epoch`` is that of the next attempt. The primary key (migration 0002) is the lane's order:
    queue, tenant, rank, ordinal.
    """

    task_id = models.UUIDField(primary_key=True)
    queue = models.CharField(max_length=10, db_collation="C")
    tenant_id = models.BigIntegerField()
    rank = models.SmallIntegerField()
    ordinal = models.BigIntegerField()
    epoch = models.IntegerField()
    type_id = models.IntegerField()
    type_version = models.IntegerField(default=1, db_default=1)
    preemptible = models.BooleanField(default=False)

    class Meta:
        db_table = "ready"
        verbose_name_plural = "ready"
        indexes = (
            # A lane in the order in which it is served.
            models.Index(fields=["queue", "tenant_id", "rank", "ordinal"], name="ready_lane"),
        )

    def __str__(self) -> str:
        return f"ready {self.task_id}"


class Parked(models.Model):
    """A queued task that cannot start whatever the lane's turn: no worker, type paused, key taken.

    It is out of ``ready``, so it costs the lanes nothing until an event brings it back.
    """

    task_id = models.UUIDField(primary_key=True)
    queue = models.CharField(max_length=10, db_collation="C")
    tenant_id = models.BigIntegerField()
    rank = models.SmallIntegerField()
    ordinal = models.BigIntegerField()
    epoch = models.IntegerField()
    type_id = models.IntegerField()
    type_version = models.IntegerField(default=1, db_default=1)
    preemptible = models.BooleanField(default=False)
    reason = models.CharField(max_length=20)
    key = models.CharField(max_length=255, null=True)  # noqa: DJ001 - null: it waits for no key

    class Meta:
        db_table = "parked"
        verbose_name_plural = "parked"
        indexes = (
            # What comes back together when nothing holds a type any more, lane by lane in order.
            models.Index(
                fields=["reason", "type_id", "type_version", "queue", "tenant_id", "rank", "ordinal"],
                name="parked_line",
            ),
            # What a lane's counter counts.
            models.Index(fields=["tenant_id", "queue"], name="parked_lane"),
            # Who waits for a key, in the order in which they get it.
            models.Index(
                fields=["tenant_id", "key", "rank", "ordinal"],
                name="parked_key",
                condition=models.Q(key__isnull=False),
            ),
        )

    def __str__(self) -> str:
        return f"parked {self.task_id}: {self.reason}"


class KeyHolder(models.Model):
    """A task that may run with its key: from when it enters its line until it has ended.

    ``slot`` counts from 0 to one below the tenant's ``running_per_key``; that a slot is taken once is
    what decides between two that want the key at the same time. A trigger (migration 0009) removes the
    row with the task's end, whoever writes that, so no key is ever left behind.
    """

    task_id = models.UUIDField(primary_key=True)
    tenant_id = models.BigIntegerField()
    key = models.CharField(max_length=255)
    slot = models.SmallIntegerField(default=0)

    class Meta:
        db_table = "key_holder"
        constraints = (
            models.UniqueConstraint(fields=["tenant_id", "key", "slot"], name="key_slot_once"),
        )

    def __str__(self) -> str:
        return f"{self.task_id} has {self.key}"


class Inflight(models.Model):
    """A task that is dispatched (published, not yet claimed) or running; a few thousand at most.

    So few that whoever asks for ended leases reads them all, once a second. An index of leases would
    have each claim and each renewal write to all indexes anew.
    ``token`` proves that a message comes from the dispatcher. ``ask`` is what the supervisor is to
    do with the run: ``cancel``, ``kill`` or ``preempt``. ``pool`` is the one whose slot the task was
    lent, null for its queue's own: only a worker of that pool can claim it. Limits count by ``queue``.
    """

    task_id = models.UUIDField(primary_key=True)
    queue = models.CharField(max_length=10, db_collation="C")
    tenant_id = models.BigIntegerField()
    rank = models.SmallIntegerField()
    ordinal = models.BigIntegerField()
    type_id = models.IntegerField()
    type_version = models.IntegerField(default=1, db_default=1)
    preemptible = models.BooleanField(default=False)
    epoch = models.IntegerField()
    token = models.CharField(max_length=43)
    state = models.CharField(max_length=10)
    lease_until = models.DateTimeField()
    dispatched_at = models.DateTimeField(db_default=Now())
    publishes = models.SmallIntegerField(default=1)
    worker = models.UUIDField(null=True)
    ask = models.CharField(max_length=10, null=True)  # noqa: DJ001 - null: nothing is asked
    pool = models.CharField(  # noqa: DJ001 - null: its queue's own
        max_length=10, null=True, db_collation="C"
    )

    class Meta:
        db_table = "inflight"
        verbose_name_plural = "inflight"
        constraints = (
            models.CheckConstraint(
                name="inflight_state_known",
                condition=models.Q(state__in=["dispatched", "running"]),
            ),
        )

    def __str__(self) -> str:
        return f"{self.state} {self.task_id}:{self.epoch}"


class Later(models.Model):
    """Something is due for a task at a time: ``start``, ``retry``, ``queue_timeout``, ``upload``."""

    task_id = models.UUIDField()
    due_at = models.DateTimeField()
    what = models.CharField(max_length=15)

    class Meta:
        db_table = "later"
        verbose_name_plural = "later"
        constraints = (models.UniqueConstraint(fields=["task_id", "what"], name="later_once"),)
        indexes = (models.Index(fields=["due_at"], name="later_due"),)

    def __str__(self) -> str:
        return f"{self.what} of {self.task_id} at {self.due_at}"


class Leader(models.Model):
    """Who leads. A paused former leader carries an old ``epoch``, so its commits are refused."""

    name = models.CharField(max_length=20, primary_key=True)
    epoch = models.BigIntegerField(default=0)
    holder = models.CharField(max_length=200, default="")
    renewed_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "leader"

    def __str__(self) -> str:
        return f"{self.name}: {self.holder} ({self.epoch})"


class LimitsRevision(models.Model):
    """One row whose ``revision`` grows with each change of a limit, pause, window or rule.

    Triggers on their tables keep it (migrations 0003, 0009, 0012). A dispatch names the one that it
    decided by, so a task that was submitted under new limits is never started by old ones.
    """

    revision = models.BigIntegerField(default=0)

    class Meta:
        db_table = "limits_revision"

    def __str__(self) -> str:
        return str(self.revision)


class Backlog(models.Model):
    """Counters of a tenant's (``queue`` empty) or a lane's submitted work, only where limits are set.

    ``queued`` counts the rows in ready and parked. Submitting ends with one conditional update of
    these rows, its only lock; the dispatcher lowers them once per batch. A row is not ``settled`` as
    long as a transaction may run that changed the line before it could see the row: until then each
    submission counts anew. ``recounted_at``: when the leader last compared it with what it counts.
    """

    tenant_id = models.BigIntegerField()
    queue = models.CharField(max_length=10, db_collation="C", default="")
    queued = models.IntegerField(default=0)
    submit_tokens = models.FloatField(default=0)
    refilled_at = models.DateTimeField(db_default=Now())
    settled = models.BooleanField(default=False, db_default=False)
    recounted_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "backlog"
        constraints = (models.UniqueConstraint(fields=["tenant_id", "queue"], name="backlog_once"),)

    def __str__(self) -> str:
        return f"{self.tenant_id}/{self.queue or 'all'}: {self.queued} queued"


class Lane(models.Model):
    """One tenant's line in one queue as the dispatcher last saw it, written at most once a second.

    ``waiting_for`` is the reason why its first task is not started, empty if nothing holds it.
    """

    tenant_id = models.BigIntegerField()
    queue = models.CharField(max_length=10, db_collation="C")
    running = models.IntegerField(default=0)
    waiting_for = models.CharField(max_length=20, default="")
    detail = models.CharField(max_length=300, default="")
    vtime = models.FloatField(default=0)
    updated_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "lane"
        constraints = (models.UniqueConstraint(fields=["tenant_id", "queue"], name="lane_once"),)

    def __str__(self) -> str:
        return f"{self.tenant_id}/{self.queue}"
