"""Runs, to look at: alone, and in their task's page."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from unfold.admin import TabularInline

from rest.admin import ReadOnlyAdmin
from tasks.models import Run


@admin.register(Run)
class RunAdmin(ReadOnlyAdmin):
    """Attempts at tasks."""

    list_display = ("__str__", "status", "machine", "pid", "started_at", "finished_at", "exit_code")
    list_filter = ("status", "isolation", "started_at")
    raw_id_fields = ("task",)
    ordering = ("-started_at",)


class RunInline(TabularInline):
    """A task's runs, below it."""

    model = Run
    fields = ("attempt", "status", "machine", "pid", "started_at", "finished_at", "exit_code")
    readonly_fields = fields
    ordering = ("attempt",)
    show_change_link = True
    can_delete = False
    max_num = 0

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
