"""The trail, to look at."""

from __future__ import annotations

from django.contrib import admin

from audit.models import AuditEntry
from rest.admin import ReadOnlyAdmin


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnlyAdmin):
    """Every entry, newest first."""

    list_display = ("at", "actor", "action", "object", "tenant_id", "reason", "request_id")
    list_filter = ("action",)
    search_fields = ("actor", "object", "request_id")
    ordering = ("-id",)
