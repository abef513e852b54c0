"""The base of every admin here: it shows, and changes nothing."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from tenants.models import Tenant


class LookingAdmin(ModelAdmin):
    """An admin without add, change and delete; the permission to view still decides who looks."""

    # Counting a table of millions for the words "of 12,345,678" costs more than the page itself.
    show_full_result_count = False
    list_per_page = 50

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class LaneRowAdmin(LookingAdmin):
    """For tables that hold a tenant's number: they show its slug, without a query per row."""

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        slug = Tenant.objects.filter(pk=OuterRef("tenant_id")).values("slug")
        queryset: QuerySet[Any] = super().get_queryset(request)
        annotated: QuerySet[Any] = queryset.annotate(tenant_slug=Subquery(slug))
        return annotated

    @admin.display(description="tenant", ordering="tenant_id")
    def tenant(self, row: Any) -> str:
        """Return the slug."""
        return row.tenant_slug or f"(gone: {row.tenant_id})"
