"""Idempotency records, to look at."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from unfold.admin import ModelAdmin

from rest.models import IdempotencyRecord


class ReadOnlyAdmin(ModelAdmin):
    """An admin without add, change and delete; the permission to view still decides who looks."""

    # Counting a table of millions for the words "of 12,345,678" costs more than the page itself.
    show_full_result_count = False
    list_per_page = 50

    def has_add_permission(self, request: Any, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: Any, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: Any, obj: Any = None) -> bool:
        return False


@admin.register(IdempotencyRecord)
class IdempotencyRecordAdmin(ReadOnlyAdmin):
    """Which keys were used; the stored answers belong to the tenants and are not shown."""

    list_display = ("scope", "key", "status", "location", "created_at")
    search_fields = ("scope", "key")
    exclude = ("body",)
    ordering = ("-id",)
