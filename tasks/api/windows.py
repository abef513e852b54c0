"""``/operator/task-types/{name}/windows``, ``/operator/windows/{types,tenants}``: off-peak windows."""

from __future__ import annotations

import hashlib
import json
from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema
from rest_framework.response import Response

from rest.errors import NotFound
from rest.etags import etag, require_match
from rest.pagination import PARAMETERS, page_of
from rest.parsing import Request
from tasks.clock import database_now
from tasks.models import TaskType
from tasks.selectors.off_peak import Stored, windows_json
from tasks.services.windows import type_windows_put
from tenants.access import OperatorView
from tenants.api.windows import WindowsBody
from tenants.models import Limit


class WindowsOfTypes(OperatorView):
    """The task types that have off-peak windows."""

    query_parameters: ClassVar = {"GET": PARAMETERS}

    @extend_schema(operation_id="operator_windows_of_types", responses={200: dict[str, Any]})
    def get(self, request: Request) -> Response:
        """List their windows, and whether they are open now."""
        now = database_now()
        found = TaskType.objects.filter(windows__isnull=False)

        def shape(row: TaskType) -> dict[str, Any]:
            return windows_json("type", row.name, row.windows, now)

        return Response(page_of(request, self.parameters, found, shape))


class WindowsOfTenants(OperatorView):
    """The tenants whose batch lanes have off-peak windows; they are set in the tenants' limits."""

    query_parameters: ClassVar = {"GET": PARAMETERS}

    @extend_schema(operation_id="operator_windows_of_tenants", responses={200: dict[str, Any]})
    def get(self, request: Request) -> Response:
        """List their windows, and whether they are open now."""
        now = database_now()
        found = Limit.objects.filter(windows__isnull=False).select_related("tenant")

        def shape(row: Limit) -> dict[str, Any]:
            return windows_json("tenant", row.tenant.slug, row.windows, now)

        return Response(page_of(request, self.parameters, found, shape))


class TypeWindows(OperatorView):
    """The off-peak windows of one task type, for all tenants."""

    @extend_schema(operation_id="operator_type_windows_read", responses={200: dict[str, Any]})
    def get(self, request: Request, name: str) -> Response:
        """Show them; an empty list is no restriction."""
        task_type = TaskType.objects.filter(name=name).only("windows").first()
        if task_type is None:
            raise NotFound()
        return _answer(name, task_type.windows)

    @extend_schema(
        operation_id="operator_type_windows_change",
        request=WindowsBody,
        responses={200: dict[str, Any]},
    )
    def put(self, request: Request, name: str) -> Response:
        """Replace them; an empty list takes the restriction away."""
        windows = type_windows_put(
            actor=self.actor,
            name=name,
            windows=WindowsBody.read(request.data),
            check=lambda before: require_match(request, _tag(before), required=False),
        )
        return _answer(name, windows)


def _answer(name: str, windows: Stored) -> Response:
    shown = windows_json("type", name, windows, database_now())
    return Response(shown, headers={"ETag": etag(_tag(windows))})


def _tag(windows: Stored) -> str:
    # Equal windows are one version, whenever they were set.
    return hashlib.sha256(json.dumps(windows, sort_keys=True).encode()).hexdigest()[:32]
