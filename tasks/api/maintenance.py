"""``/operator/maintenance``: stop and resume the intake of tasks."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.response import Response

from rest.etags import etag, require_match
from rest.parsing import Request
from tasks.api.serializers import MaintenanceBody
from tasks.models import Maintenance
from tasks.services.maintenance import (
    maintenance_get,
    maintenance_json,
    maintenance_set,
    maintenance_version,
)
from tenants.access import OperatorView


class OperatorMaintenance(OperatorView):
    """Whether new tasks are taken."""

    @extend_schema(operation_id="operator_maintenance_read", responses={200: dict[str, Any]})
    def get(self, request: Request) -> Response:
        """Tell whether the intake is stopped, since when, by whom and why."""
        return _answer(maintenance_get())

    @extend_schema(
        operation_id="operator_maintenance_change",
        request=MaintenanceBody,
        responses={200: dict[str, Any]},
    )
    def put(self, request: Request) -> Response:
        """Stop the intake (submits answer 503 with Retry-After, reads work) or resume it."""
        values = MaintenanceBody.read(request.data)
        row = maintenance_set(
            actor=self.actor,
            enabled=values["enabled"],
            reason=values.get("reason") or "",
            check=lambda version: require_match(request, version, required=False),
        )
        return _answer(row)


def _answer(row: Maintenance | None) -> Response:
    return Response(maintenance_json(row), headers={"ETag": etag(maintenance_version(row))})
