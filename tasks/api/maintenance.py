"""``/operator/maintenance``: stop and resume the intake of tasks."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.response import Response

from rest.parsing import Request
from tasks.api.serializers import MaintenanceBody
from tasks.services.maintenance import maintenance_set, maintenance_state
from tenants.access import OperatorView


class OperatorMaintenance(OperatorView):
    """Whether new tasks are taken."""

    @extend_schema(operation_id="operator_maintenance_read", responses={200: dict[str, Any]})
    def get(self, request: Request) -> Response:
        """Tell whether the intake is stopped, since when, by whom and why."""
        return Response(maintenance_state())

    @extend_schema(
        operation_id="operator_maintenance_change",
        request=MaintenanceBody,
        responses={200: dict[str, Any]},
    )
    def put(self, request: Request) -> Response:
        """Stop the intake (submits answer 503 with Retry-After, reads work) or resume it."""
        values = MaintenanceBody.read(request.data)
        maintenance_set(actor=self.actor, enabled=values["enabled"], reason=values.get("reason") or "")
        return Response(maintenance_state())
