"""``/usage``: what the tenant uses now, in the shape of its limits."""

from __future__ import annotations

from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema
from rest_framework.response import Response

from rest.parsing import Request
from tasks.selectors.usage import usage_for
from tenants.access import TenantView


class Usage(TenantView):
    """The tenant's usage."""

    required_scopes: ClassVar = {"GET": "limits:read"}

    @extend_schema(operation_id="usage_read", responses={200: dict[str, Any]})
    def get(self, request: Request, tenant: str) -> Response:
        """Count running and queued tasks, in all and per queue."""
        return Response(usage_for(self.tenant))
