"""``/tasks`` (list and submit) and ``/tasks/{id}``."""

from __future__ import annotations

import uuid
from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema
from rest_framework.response import Response

from rest.idempotency import Created, create_once
from rest.pagination import PARAMETERS, page_of
from rest.parsing import Request
from tasks.api.forecast import forecast
from tasks.api.serializers import SubmitBody, read_submission
from tasks.selectors.filters import FILTERS, filter_tasks
from tasks.selectors.representation import new_task_json, task_json, tasks_json
from tasks.selectors.tasks import listed_tasks, visible_task
from tasks.services.consume import consume
from tasks.services.submit import submit_and_ask, try_submit
from tenants.access import TenantView


class TaskList(TenantView):
    """The tenant's tasks."""

    required_scopes: ClassVar = {"GET": "tasks:read", "POST": "tasks:write"}
    query_parameters: ClassVar = {"GET": (*PARAMETERS, *FILTERS)}

    @extend_schema(operation_id="tasks_list", responses={200: dict[str, Any]})
    def get(self, request: Request, tenant: str) -> Response:
        """List tasks, newest first. Filters: AND across parameters, OR (commas) inside one."""
        found = filter_tasks(listed_tasks(self.tenant), self.parameters)
        page = page_of(request, self.parameters, found, lambda task: task, column="ordinal")
        for task in page["results"]:
            task.tenant = self.tenant
        page["results"] = tasks_json(page["results"])
        return Response(page)

    @extend_schema(operation_id="tasks_submit", request=SubmitBody, responses={201: dict[str, Any]})
    def post(self, request: Request, tenant: str) -> Response:
        """Submit a task. With ``dry_run`` nothing is stored and the answer is 200."""
        submission, dry_run = read_submission(request.data)
        if dry_run:
            verdict = try_submit(self.tenant, self.actor, submission)
            return Response(forecast(self.tenant, submission, verdict))

        def create() -> Created:
            task, place = submit_and_ask(self.tenant, self.actor, submission)
            if submission.depends_on:
                # Parents that have ended may have moved it on.
                task.refresh_from_db(fields=["queued_at", "status", "status_reason", "finished_at"])
            shown = new_task_json(task, tuple(dict.fromkeys(submission.depends_on)), place)
            return Created(shown, shown["links"]["self"])

        return create_once(request, scope=self.actor.idempotency_scope, create=create, whole=True)


class TaskDetail(TenantView):
    """One task."""

    required_scopes: ClassVar = {"GET": "tasks:read"}

    @extend_schema(operation_id="tasks_read", responses={200: dict[str, Any]})
    def get(self, request: Request, tenant: str, task_id: uuid.UUID) -> Response:
        """Show a task with its runs, dependencies and what it waits for."""
        task = visible_task(self.actor, self.tenant, task_id)
        consume(self.actor, task)
        return Response(task_json(task, operator=self.actor.operator, detail=True))
