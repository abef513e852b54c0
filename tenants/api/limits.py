"""``/limits``: what a tenant may use; only platform operators change it."""

from __future__ import annotations

from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema
from rest_framework.response import Response

from rest.etags import etag, require_match
from rest.parsing import Request
from tenants.access import OPERATOR, TenantView
from tenants.api.serializers import LimitsBody
from tenants.selectors import limits_for, limits_version
from tenants.services import limits_put


class Limits(TenantView):
    """The tenant's limits."""

    required_scopes: ClassVar = {"GET": "limits:read", "PUT": OPERATOR}

    @extend_schema(operation_id="limits_read", responses={200: dict[str, Any]})
    def get(self, request: Request, tenant: str) -> Response:
        """Show all limits; null is no limit."""
        version = limits_version(self.tenant)
        return Response(limits_for(self.tenant), headers={"ETag": etag(version)})

    @extend_schema(operation_id="limits_change", request=LimitsBody, responses={200: dict[str, Any]})
    def put(self, request: Request, tenant: str) -> Response:
        """Change what the body names; what is left out stays."""
        limits = limits_put(
            actor=self.actor,
            tenant=self.tenant,
            limits=LimitsBody.read(request.data),
            check=lambda version: require_match(request, version, required=False),
        )
        return Response(limits, headers={"ETag": etag(limits_version(self.tenant))})
