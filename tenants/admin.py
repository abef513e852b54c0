"""Tenants in the operators' admin. Every change goes through the services, so it is audited."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import User
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.decorators import method_decorator
from django.utils.timezone import now
from unfold.admin import ModelAdmin

from rest.admin import ReadOnlyAdmin
from rest.errors import Problem
from rest.text import TextRefused
from tenants.actor import Actor
from tenants.authentication import authenticate_session
from tenants.limits import WHOLE
from tenants.models import ApiToken, Limit, Membership, Tenant
from tenants.services import (
    limits_put,
    member_add,
    member_remove,
    member_role_set,
    tenant_change,
    tenant_create,
    token_revoke,
)
from tenants.services.tenants import CHANGEABLE


def operator_of(request: HttpRequest) -> Actor:
    """Return the staff user as an actor."""
    actor = authenticate_session(request.user)
    if actor is None or not actor.operator:
        raise PermissionError("the admin is for staff")
    return actor


class ServiceAdmin(ModelAdmin):
    """An admin whose saving may be refused by a service; the refusal is shown as a message."""

    actions: tuple[str, ...] = ()

    def changeform_view(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        return self._telling(request, super().changeform_view, *args, **kwargs)

    def changelist_view(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        return self._telling(request, super().changelist_view, *args, **kwargs)

    def delete_view(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        return self._telling(request, super().delete_view, *args, **kwargs)

    def _telling(self, request: HttpRequest, view: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            response: HttpResponse = view(request, *args, **kwargs)
        except (Problem, TextRefused) as error:
            messages.error(request, str(error))
            return HttpResponseRedirect(request.get_full_path())
        return response


@admin.register(Tenant)
class TenantAdmin(ServiceAdmin):
    """Make, pause and rename tenants; a slug never changes, addresses hang on it."""

    list_display = ("slug", "name", "paused", "network_permitted", "created_at")
    list_filter = ("paused", "network_permitted")
    search_fields = ("slug", "name")
    ordering = ("-id",)

    def get_readonly_fields(self, request: Any, obj: Any = None) -> tuple[str, ...]:
        return ("slug", "uid", "created_at", "is_first") if obj else ()

    def has_delete_permission(self, request: Any, obj: Any = None) -> bool:
        return False

    def save_model(self, request: Any, obj: Tenant, form: Any, change: bool) -> None:
        actor = operator_of(request)
        if change:
            changes = {name: form.cleaned_data[name] for name in CHANGEABLE}
            tenant_change(actor=actor, slug=obj.slug, changes=changes)
            return
        made = tenant_create(
            actor=actor,
            slug=obj.slug,
            name=obj.name,
            network_permitted=obj.network_permitted,
        )
        obj.pk, obj.slug = made.pk, made.slug


@admin.register(Membership)
class MembershipAdmin(ServiceAdmin):
    """Who belongs to which tenant."""

    list_display = ("tenant", "user", "role", "created_at")
    list_filter = ("role", "tenant")
    search_fields = ("user__username", "tenant__slug")
    autocomplete_fields = ("tenant",)
    ordering = ("-id",)

    def get_readonly_fields(self, request: Any, obj: Any = None) -> tuple[str, ...]:
        return ("tenant", "user", "created_at") if obj else ()

    def save_model(self, request: Any, obj: Membership, form: Any, change: bool) -> None:
        actor = operator_of(request)
        if change:
            member_role_set(actor=actor, tenant=obj.tenant, member=obj, role=obj.role)
        else:
            made = member_add(actor=actor, tenant=obj.tenant, user=obj.user, role=obj.role)
            obj.pk = made.pk

    def delete_model(self, request: Any, obj: Membership) -> None:
        member_remove(actor=operator_of(request), tenant=obj.tenant, member=obj)

    def delete_queryset(self, request: Any, queryset: Any) -> None:
        with transaction.atomic():  # all of them or none
            for member in queryset:
                self.delete_model(request, member)


class AccountAdmin(UserAdmin):
    """Django's, but whom the list's action deletes is looked at and deleted in one transaction.

    Otherwise a tenant's last two owners could be deleted at the same moment (``keep_an_owner``); the
    page that deletes one user is one transaction by itself.
    """

    @method_decorator(transaction.atomic)
    def changelist_view(self, *args: Any, **kwargs: Any) -> Any:
        return super().changelist_view(*args, **kwargs)


admin.site.unregister(User)
admin.site.register(User, AccountAdmin)


@admin.register(ApiToken)
class ApiTokenAdmin(ReadOnlyAdmin):
    """Tokens without their hashes; they are issued through the API and revoked here or there."""

    list_display = ("name", "prefix", "tenant", "operator", "state", "expires_at", "last_used_at")
    list_filter = ("operator", "tenant")
    search_fields = ("name", "prefix", "tenant__slug")
    exclude = ("hash",)
    actions = ("revoke",)
    ordering = ("-id",)

    @admin.display(description="state")
    def state(self, token: ApiToken) -> str:
        """Tell whether the token works."""
        if token.revoked_at:
            return "revoked"
        return "expired" if token.expires_at <= now() else "valid"

    @admin.action(description="Revoke the selected tokens")
    def revoke(self, request: HttpRequest, queryset: Any) -> None:
        """Revoke at once; audited."""
        actor = operator_of(request)
        for token in queryset:
            token_revoke(actor=actor, token=token)
        messages.success(request, "The tokens no longer work.")


@admin.register(Limit)
class LimitAdmin(ServiceAdmin):
    """Limits, one row per tenant and queue; an empty queue means all of them together."""

    list_display = (
        "tenant",
        "queue",
        "running",
        "queued",
        "min_running",
        "weight",
        "submit_per_second",
        "dispatch_per_second",
        "running_per_key",
        "windows",
    )
    list_filter = ("queue", "tenant")
    autocomplete_fields = ("tenant",)
    ordering = ("tenant", "queue")

    def get_readonly_fields(self, request: Any, obj: Any = None) -> tuple[str, ...]:
        # Windows are checked by the API alone: a zone that is none would hold the lane for ever.
        return ("tenant", "queue", "windows") if obj else ("windows",)

    def has_delete_permission(self, request: Any, obj: Any = None) -> bool:
        # Deleting would lower the sum of versions, by which the dispatcher sees a change.
        return False

    def save_model(self, request: Any, obj: Limit, form: Any, change: bool) -> None:
        names: tuple[str, ...] = ("running", "queued", "min_running")
        if obj.queue == WHOLE:
            names = (
                "running",
                "queued",
                "weight",
                "submit_per_second",
                "dispatch_per_second",
                "running_per_key",
            )
        row = {name: getattr(obj, name) for name in names}
        limits_put(
            actor=operator_of(request),
            tenant=obj.tenant,
            limits=row if obj.queue == WHOLE else {"queues": {obj.queue: row}},
        )
        obj.pk = Limit.objects.get(tenant=obj.tenant, queue=obj.queue).pk
