"""Workers, pools and task types, to look at: what changes them is the API or the machines."""

from __future__ import annotations

from django.contrib import admin

from rest.admin import ReadOnlyAdmin
from tasks.models import PoolBounds, PoolMachine, TaskType, Worker


@admin.register(TaskType)
class TaskTypeAdmin(ReadOnlyAdmin):
    """What can be run. A change here would last until the next worker starts, so there is none.

    ``windows`` alone are the operators', and set by the API, which checks them.
    """

    list_display = ("name", "title", "queue", "idempotent", "cancellable", "time_limit", "windows")
    list_filter = ("queue", "idempotent", "cancellable", "test_only")
    search_fields = ("name", "title")


@admin.register(Worker)
class WorkerAdmin(ReadOnlyAdmin):
    """The worker processes of all machines."""

    list_display = ("name", "queue", "status", "host", "pid", "busy", "slots", "seen_at")
    list_filter = ("status", "queue", "isolation", "host")
    search_fields = ("name", "host", "machine")
    ordering = ("-seen_at",)


@admin.register(PoolBounds)
class PoolBoundsAdmin(ReadOnlyAdmin):
    """The pools that an operator has scaled (``switchyard scale``)."""

    list_display = ("queue", "least", "most", "changed_at", "by")


@admin.register(PoolMachine)
class PoolMachineAdmin(ReadOnlyAdmin):
    """What each machine makes of its pools' bounds."""

    list_display = ("machine", "queue", "target", "least", "most", "capacity", "why", "seen_at")
    list_filter = ("queue",)
    ordering = ("machine", "queue")
