"""The hot tables of dispatching, to look at."""

from __future__ import annotations

from django.contrib import admin

from rest.admin import ReadOnlyAdmin
from tasks.admin.looking import LaneRowAdmin
from tasks.models import Backlog, Inflight, KeyHolder, Lane, Later, Leader, Parked, Pause, Ready


@admin.register(Ready)
class ReadyAdmin(LaneRowAdmin):
    """What may start now."""

    list_display = ("task_id", "tenant", "queue", "rank", "ordinal", "epoch")
    list_filter = ("queue",)
    ordering = ("queue", "tenant_id", "rank", "ordinal")


@admin.register(Parked)
class ParkedAdmin(LaneRowAdmin):
    """What cannot start whatever its lane's turn, and why."""

    list_display = ("task_id", "tenant", "queue", "reason", "rank", "ordinal")
    list_filter = ("queue", "reason")
    ordering = ("ordinal",)


@admin.register(KeyHolder)
class KeyHolderAdmin(LaneRowAdmin):
    """Which tasks have a key at the moment."""

    list_display = ("task_id", "tenant", "key", "slot")
    ordering = ("tenant_id", "key", "slot")


@admin.register(Pause)
class PauseAdmin(ReadOnlyAdmin):
    """The queues and task types that are paused."""

    list_display = ("subject", "name", "since", "by", "reason")
    list_filter = ("subject",)
    ordering = ("subject", "name")


@admin.register(Inflight)
class InflightAdmin(LaneRowAdmin):
    """What is dispatched or running. The token is a key to the task, so it is not shown."""

    list_display = (
        "task_id",
        "tenant",
        "queue",
        "pool",
        "state",
        "epoch",
        "lease_until",
        "ask",
        "worker",
    )
    list_filter = ("queue", "pool", "state")
    ordering = ("lease_until",)
    exclude = ("token",)


@admin.register(Lane)
class LaneAdmin(LaneRowAdmin):
    """Each tenant's line in each queue, as the dispatcher last saw it."""

    list_display = ("__str__", "tenant", "queue", "running", "waiting_for", "detail", "updated_at")
    list_filter = ("queue", "waiting_for")
    ordering = ("tenant_id", "queue")


@admin.register(Backlog)
class BacklogAdmin(LaneRowAdmin):
    """The counters behind the queued limits and the submit rate."""

    list_display = ("__str__", "tenant", "queue", "queued", "submit_tokens", "refilled_at")
    list_filter = ("queue",)
    ordering = ("tenant_id", "queue")


@admin.register(Later)
class LaterAdmin(ReadOnlyAdmin):
    """What the clock has to do."""

    list_display = ("task_id", "what", "due_at")
    list_filter = ("what",)
    ordering = ("due_at",)


@admin.register(Leader)
class LeaderAdmin(ReadOnlyAdmin):
    """Who leads."""

    list_display = ("name", "holder", "epoch", "renewed_at")
