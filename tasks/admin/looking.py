"""What admins of tables with a tenant's number share."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest

from rest.admin import ReadOnlyAdmin
from tenants.models import Tenant


class LaneRowAdmin(ReadOnlyAdmin):
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
