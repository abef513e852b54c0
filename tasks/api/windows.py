"""``/operator/task-types/{name}/windows`` and ``/operator/windows``: off-peak windows."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.response import Response

from rest.errors import NotFound
from rest.etags import etag, require_match
from rest.parsing import Request
from tasks.clock import database_now
from tasks.models import TaskType
from tasks.selectors.off_peak import Stored, windows_in_use
from tasks.services.windows import type_windows_put
from tenants.access import OperatorView
from tenants.api.windows import WindowsBody
from tenants.windows import state_json


class OperatorWindows(OperatorView):
    """All off-peak windows, of types and of tenants."""

    @extend_schema(operation_id="operator_windows_list", responses={200: dict[str, Any]})
    def get(self, request: Request) -> Response:
        """List whose they are, and whether they are open now. A tenant's are set in its limits."""
        found = windows_in_use(database_now())
        return Response({"results": found, "next": None, "previous": None})


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
    state = state_json(windows, database_now()) or {"open": True, "until": None}
    shown = windows or {"zone": "UTC", "windows": []}
    return Response({"type": name, **shown, **state}, headers={"ETag": etag(_tag(windows))})


def _tag(windows: Stored) -> str:
    # Equal windows are one version, whenever they were set.
    return hashlib.sha256(json.dumps(windows, sort_keys=True).encode()).hexdigest()[:32]
