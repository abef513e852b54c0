"""``/operator/tenants``: platform operators make and change tenants."""

from __future__ import annotations

from typing import Any, ClassVar

from django.urls import reverse
from drf_spectacular.utils import extend_schema
from rest_framework.response import Response

from rest.errors import NotFound
from rest.etags import etag, require_match
from rest.idempotency import Created, create_once
from rest.pagination import PARAMETERS, page_of
from rest.parsing import Request
from tasks.api.serializers import ReasonBody
from tenants.access import OperatorView
from tenants.api.serializers import TenantBody, TenantChangeBody
from tenants.api.shapes import tenant_shape
from tenants.models import Tenant
from tenants.services import tenant_change, tenant_create


class OperatorTenants(OperatorView):
    """All tenants."""

    query_parameters: ClassVar = {"GET": PARAMETERS}

    @extend_schema(operation_id="operator_tenants_list", responses={200: dict[str, Any]})
    def get(self, request: Request) -> Response:
        """List tenants, newest first."""
        return Response(page_of(request, self.parameters, Tenant.objects.all(), tenant_shape))

    @extend_schema(
        operation_id="operator_tenants_create",
        request=TenantBody,
        responses={201: dict[str, Any]},
    )
    def post(self, request: Request) -> Response:
        """Make a tenant. It has no members and no limits yet."""
        values = TenantBody.read(request.data)

        def create() -> Created:
            tenant = tenant_create(actor=self.actor, **values)
            return Created(tenant_shape(tenant), reverse("api:operator-tenant", args=[tenant.slug]))

        return create_once(request, scope="operator", create=create)


class OperatorTenant(OperatorView):
    """One tenant."""

    @extend_schema(operation_id="operator_tenants_read", responses={200: dict[str, Any]})
    def get(self, request: Request, slug: str) -> Response:
        """Show one tenant."""
        tenant = Tenant.objects.filter(slug=slug).first()
        if tenant is None:
            raise NotFound()
        return Response(tenant_shape(tenant), headers={"ETag": etag(tenant.version)})

    @extend_schema(
        operation_id="operator_tenants_change",
        request=TenantChangeBody,
        responses={200: dict[str, Any]},
    )
    def patch(self, request: Request, slug: str) -> Response:
        """Change the name, pause or go on, permit the network."""
        tenant = tenant_change(
            actor=self.actor,
            slug=slug,
            changes=TenantChangeBody.read(request.data),
            check=lambda locked: require_match(request, locked.version, required=False),
        )
        return Response(tenant_shape(tenant), headers={"ETag": etag(tenant.version)})


class _Change(OperatorView):
    """Pause or resume a tenant, as PATCH with ``paused`` does; what runs goes on."""

    body = "optional"
    paused: ClassVar[bool]

    def change(self, request: Request, slug: str) -> Response:
        tenant = tenant_change(
            actor=self.actor,
            slug=slug,
            reason=ReasonBody.read(request.data).get("reason") or "",
            changes={"paused": self.paused},
        )
        return Response(tenant_shape(tenant))


class TenantPause(_Change):
    """Nothing of the tenant is dispatched any more; it can read and submit."""

    paused = True

    @extend_schema(
        operation_id="operator_tenants_pause", request=ReasonBody, responses={200: dict[str, Any]}
    )
    def post(self, request: Request, slug: str) -> Response:
        """Pause a tenant."""
        return self.change(request, slug)


class TenantResume(_Change):
    """The tenant's tasks are dispatched again."""

    paused = False

    @extend_schema(
        operation_id="operator_tenants_resume", request=ReasonBody, responses={200: dict[str, Any]}
    )
    def post(self, request: Request, slug: str) -> Response:
        """Resume a tenant."""
        return self.change(request, slug)
