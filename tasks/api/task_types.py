"""``/task-types``: what can be run."""

from __future__ import annotations

from typing import Any, ClassVar

from django.conf import settings
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework.response import Response

from rest.errors import NotFound
from rest.pagination import PARAMETERS, page_of
from rest.parsing import Request
from tasks.models import TaskType
from tasks.selectors.representation import type_json
from tenants.access import TenantView


def visible_types() -> QuerySet[TaskType]:
    """Return the task types that this installation offers; the test ones only where they are on."""
    types = TaskType.objects.all()
    return types if settings.SWITCHYARD.test_task_types else types.filter(test_only=False)


class TaskTypeList(TenantView):
    """All task types."""

    required_scopes: ClassVar = {"GET": "tasks:read"}
    query_parameters: ClassVar = {"GET": PARAMETERS}

    @extend_schema(operation_id="task_types_list", responses={200: dict[str, Any]})
    def get(self, request: Request, tenant: str) -> Response:
        """List task types by name."""
        page = page_of(
            request, self.parameters, visible_types(), type_json, column="name", ascending=True
        )
        return Response(page)


class TaskTypeDetail(TenantView):
    """One task type."""

    required_scopes: ClassVar = {"GET": "tasks:read"}

    @extend_schema(operation_id="task_types_read", responses={200: dict[str, Any]})
    def get(self, request: Request, tenant: str, type_name: str) -> Response:
        """Show a task type with the JSON Schema of its params."""
        task_type = visible_types().filter(name=type_name).first()
        if task_type is None:
            raise NotFound()
        return Response(type_json(task_type))
