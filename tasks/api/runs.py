"""``/tasks/{id}/runs`` and ``/runs/{attempt}``."""

from __future__ import annotations

import uuid
from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema
from rest_framework.response import Response

from rest.pagination import PARAMETERS, page_of
from rest.parsing import Request
from tasks.selectors.representation import result_expired, run_json
from tasks.selectors.tasks import run_of, visible_task
from tenants.access import TenantView


class RunList(TenantView):
    """The attempts at a task."""

    required_scopes: ClassVar = {"GET": "tasks:read"}
    query_parameters: ClassVar = {"GET": PARAMETERS}

    @extend_schema(operation_id="runs_list", responses={200: dict[str, Any]})
    def get(self, request: Request, tenant: str, task_id: uuid.UUID) -> Response:
        """List the runs of a task, newest first."""
        task = visible_task(self.actor, self.tenant, task_id)
        operator, expired = self.actor.operator, result_expired(task)
        page = page_of(
            request,
            self.parameters,
            task.runs.all(),
            lambda run: run_json(run, task=task, operator=operator, expired=expired),
            column="attempt",
        )
        return Response(page)


class RunDetail(TenantView):
    """One attempt."""

    required_scopes: ClassVar = {"GET": "tasks:read"}

    @extend_schema(operation_id="runs_read", responses={200: dict[str, Any]})
    def get(self, request: Request, tenant: str, task_id: uuid.UUID, attempt: int) -> Response:
        """Show one run; the first attempt is 1."""
        task = visible_task(self.actor, self.tenant, task_id)
        run = run_of(task, attempt)
        expired = result_expired(task)
        return Response(run_json(run, task=task, operator=self.actor.operator, expired=expired))
