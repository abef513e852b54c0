"""``/operator/status``: every component at a glance."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.response import Response

from api.components import platform_status
from rest.parsing import Request
from tenants.access import OperatorView


class OperatorStatus(OperatorView):
    """The platform's state."""

    @extend_schema(operation_id="operator_status_read", responses={200: dict[str, Any]})
    def get(self, request: Request) -> Response:
        """Tell of each component whether it is healthy, degraded or down, and of the whole."""
        return Response(platform_status())
