"""Routing rules and estimated lengths, to look at: rules are set by the API, which checks and audits."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest

from rest.admin import ReadOnlyAdmin
from tasks.admin.looking import LaneRowAdmin
from tasks.models import Estimate, Route, TaskType


@admin.register(Route)
class RouteAdmin(ReadOnlyAdmin):
    """The rules in their order; the first that matches decides."""

    list_display = ("name", "position", "queue", "type", "labels", "tenant", "over", "under", "by")
    list_filter = ("queue",)
    list_select_related = ("tenant",)
    search_fields = ("name", "type")
    ordering = ("position", "name")


@admin.register(Estimate)
class EstimateAdmin(LaneRowAdmin):
    """How long runs take, by type and tenant (none: all of them)."""

    list_display = ("type", "tenant", "seconds", "updated_at")
    ordering = ("type_id", "tenant_id")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Estimate]:
        name = TaskType.objects.filter(pk=OuterRef("type_id")).values("name")
        found: QuerySet[Estimate] = super().get_queryset(request)
        return found.annotate(type_name=Subquery(name))

    @admin.display(description="type", ordering="type_id")
    def type(self, row: Estimate) -> str:
        """Return the type's name."""
        return getattr(row, "type_name", None) or f"(gone: {row.type_id})"

    @admin.display(description="tenant", ordering="tenant_id")
    def tenant(self, row: Estimate) -> str:
        """Return the slug; the average over all has none."""
        return str(super().tenant(row)) if row.tenant_id else "all"
