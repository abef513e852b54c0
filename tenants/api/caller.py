"""Who am I, and where may I go: ``/me``, ``/tenants`` and a tenant's own address."""

from __future__ import annotations

from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema
from rest_framework.response import Response

from rest.pagination import PARAMETERS, page_of
from rest.parsing import Request
from tenants.access import ANYBODY, CallerView, TenantView
from tenants.api.shapes import tenant_shape, token_shape
from tenants.models import ApiToken, Membership, Tenant
from tenants.scopes import scopes_of
from tenants.selectors import limits_for, tenants_visible


class Me(CallerView):
    """The caller: user or token, and the tenants it belongs to."""

    required_scopes: ClassVar = {"GET": ANYBODY}

    @extend_schema(operation_id="me", responses={200: dict[str, Any]})
    def get(self, request: Request) -> Response:
        """Tell who the credential belongs to."""
        actor = self.actor
        token = None
        tenants: list[dict[str, Any]] = []
        if actor.token_id is not None:
            token = ApiToken.objects.select_related("tenant").get(pk=actor.token_id)
            if token.tenant is not None:
                tenants.append(_belongs(token.tenant, None, actor.scopes))
        if actor.user_id is not None:
            for member in Membership.objects.filter(user_id=actor.user_id).select_related("tenant"):
                tenants.append(_belongs(member.tenant, member.role, scopes_of(member.role)))
        return Response(
            {
                "kind": actor.kind,
                "name": actor.name,
                "operator": actor.operator,
                "user": actor.name.partition(":")[2] if actor.kind == "user" else None,
                "token": token_shape(token) if token else None,
                "tenants": tenants,
            }
        )


def _belongs(tenant: Tenant, role: str | None, scopes: frozenset[str]) -> dict[str, Any]:
    """One tenant of the caller's, and what the caller may do there."""
    return {"slug": tenant.slug, "name": tenant.name, "role": role, "scopes": sorted(scopes)}


class Tenants(CallerView):
    """The tenants that the caller belongs to; an operator sees all."""

    required_scopes: ClassVar = {"GET": ANYBODY}
    query_parameters: ClassVar = {"GET": PARAMETERS}

    @extend_schema(operation_id="tenants_list", responses={200: dict[str, Any]})
    def get(self, request: Request) -> Response:
        """List tenants, newest first."""
        return Response(page_of(request, self.parameters, tenants_visible(self.actor), tenant_shape))


class TenantHome(TenantView):
    """One tenant, what the caller is in it, and its limits."""

    required_scopes: ClassVar = {"GET": ANYBODY}

    @extend_schema(operation_id="tenant_read", responses={200: dict[str, Any]})
    def get(self, request: Request, tenant: str) -> Response:
        """Tell what this tenant is and what the caller may do here."""
        return Response(
            {
                **tenant_shape(self.tenant),
                "role": self.actor.role,
                "scopes": sorted(self.actor.scopes),
                "limits": limits_for(self.tenant),
            }
        )
