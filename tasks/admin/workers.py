"""Workers and task types, to look at: each worker writes both itself."""

from __future__ import annotations

from django.contrib import admin

from tasks.admin.looking import LookingAdmin
from tasks.models import TaskType, Worker


@admin.register(TaskType)
class TaskTypeAdmin(LookingAdmin):
    """What can be run. A change here would last until the next worker starts, so there is none.

    ``windows`` alone are the operators', and set by the API, which checks them.
    """

    list_display = ("name", "title", "queue", "idempotent", "cancellable", "time_limit", "windows")
    list_filter = ("queue", "idempotent", "cancellable", "test_only")
    search_fields = ("name", "title")


@admin.register(Worker)
class WorkerAdmin(LookingAdmin):
    """The worker processes of all machines."""

    list_display = ("name", "queue", "status", "host", "pid", "busy", "slots", "seen_at")
    list_filter = ("status", "queue", "isolation", "host")
    search_fields = ("name", "host", "machine")
    ordering = ("-seen_at",)
