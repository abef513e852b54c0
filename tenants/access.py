"""The door of a tenant: who is inside, as what, and the base of every view behind it.

What a caller may not see is answered with the one 404; what it may see and may not do, with a 403
that names the scope or role.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from django.http import HttpRequest
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

from audit.services import record
from rest.errors import NotFound, ScopeRequired, Unauthenticated, ValidationFailed
from rest.text import TextRefused, clean_text
from rest.views import APIView
from tenants.actor import Actor
from tenants.errors import OperatorReasonRequired, OperatorRequired
from tenants.models import Membership, Tenant
from tenants.scopes import ALL, scopes_of

REASON_HEADER = "X-Operator-Reason"

# What `required_scopes` may say instead of a scope.
ANYBODY = "anybody"  # whoever may see the tenant
OPERATOR = "operator"  # platform operators: their token, or a staff user


def enter(actor: Actor, slug: str, *, reason: str = "", method: str = "GET") -> tuple[Tenant, Actor]:
    """Return the tenant and what the caller is inside it. One query for members, none for tokens.

    A member gets the role's scopes. An operator gets all of them, gives a reason (but on the tenant
    that ``up`` made) and leaves an audit entry; the entry is committed before anything is shown.

    Raises:
        NotFound: there is no such tenant for this caller.
        OperatorReasonRequired: an operator gave no reason.
    """
    if actor.tenant_id is not None:  # a tenant's token
        if actor.home is None:
            actor = replace(actor, home=Tenant.objects.get(pk=actor.tenant_id))
        if actor.home.slug != slug:
            raise NotFound()
        return actor.home, actor
    if actor.user_id is not None:
        membership = (
            Membership.objects.select_related("tenant")
            .filter(user_id=actor.user_id, tenant__slug=slug)
            .first()
        )
        if membership is not None:
            inside = replace(
                actor,
                tenant_id=membership.tenant_id,
                role=membership.role,
                scopes=scopes_of(membership.role),
            )
            return membership.tenant, inside
    if not actor.operator:
        raise NotFound()
    return _enter_as_operator(actor, slug, reason=reason, method=method)


def _enter_as_operator(actor: Actor, slug: str, *, reason: str, method: str) -> tuple[Tenant, Actor]:
    tenant = Tenant.objects.filter(slug=slug).first()
    if tenant is None:
        raise NotFound()
    if reason:
        try:
            reason = clean_text(reason, max_length=500)
        except TextRefused as error:
            raise ValidationFailed.at(f"header:{REASON_HEADER}", error.code, error.detail) from None
    elif not tenant.is_first:
        raise OperatorReasonRequired()
    inside = replace(
        actor,
        kind="operator",
        name=f"operator:{actor.name.partition(':')[2]}",
        tenant_id=tenant.pk,
        role="operator",
        scopes=frozenset({ALL}),
        reason=reason,
    )
    # Watching the tenant that `up` made is daily business; everything else is told.
    if reason or method not in SAFE_METHODS:
        record(
            actor=inside.name,
            action="operator.access",
            object=f"tenant:{tenant.slug}",
            tenant_id=tenant.pk,
            reason=reason,
            data={"method": method},
        )
    return tenant, inside


def require(actor: Actor, needed: str) -> None:
    """Check what ``required_scopes`` names.

    Raises:
        ScopeRequired, OperatorRequired: naming what is missing.
    """
    if needed == ANYBODY:
        return
    if needed == OPERATOR:
        if not actor.operator:
            raise OperatorRequired()
    elif not actor.can(needed):
        raise ScopeRequired(needed)


def operator_reason(request: HttpRequest | Request) -> str:
    """Return the reason that an operator gives, decoded (HTTP headers arrive as Latin-1)."""
    raw = str(request.headers.get(REASON_HEADER, ""))
    try:
        return raw.encode("latin-1").decode("utf-8").strip()
    except UnicodeError:
        return raw.strip()


class CallerPermission(BasePermission):
    """Anybody who is known; the view's ``required_scopes`` may ask for an operator."""

    def has_permission(self, request: Request, view: Any) -> bool:
        actor = request.auth
        if not isinstance(actor, Actor):
            raise Unauthenticated()
        view.actor = self.inside(actor, request, view)
        request.actor = view.actor  # type: ignore[attr-defined]
        method = "GET" if request.method == "HEAD" else request.method
        if method in view.allowed_methods and method != "OPTIONS":
            needed = view.required_scopes.get(method)
            if needed is None:
                return False
            require(view.actor, needed)
        return True

    def inside(self, actor: Actor, request: Request, view: Any) -> Actor:
        """Return the actor as it is behind this view's door."""
        return actor


class TenantPermission(CallerPermission):
    """Whoever may see the tenant in the address and holds the scope of the method."""

    def inside(self, actor: Actor, request: Request, view: Any) -> Actor:
        view.tenant, inside = enter(
            actor,
            view.kwargs["tenant"],
            reason=operator_reason(request),
            method=str(request.method),
        )
        return inside


class CallerView(APIView):
    """A view outside a tenant; ``required_scopes`` says ANYBODY or OPERATOR for each method."""

    permission_classes = [CallerPermission]
    required_scopes: ClassVar[Mapping[str, str]] = {}

    actor: Actor


class OperatorView(CallerView):
    """A view for platform operators alone (``/api/v1/operator/…``)."""

    required_scopes: ClassVar = dict.fromkeys(("GET", "POST", "PUT", "PATCH", "DELETE"), OPERATOR)


class TenantView(CallerView):
    """A view below ``/api/v1/tenants/{tenant}/``.

    It finds ``self.tenant`` and ``self.actor`` (also ``request.actor``) ready. ``required_scopes``
    names one scope (or ANYBODY, OPERATOR) for every method; a method without one is refused.
    """

    permission_classes = [TenantPermission]

    tenant: Tenant
