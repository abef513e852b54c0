"""``/tasks/{id}/cancel`` and ``/retry``."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema
from rest_framework.response import Response

from rest.parsing import Request
from tasks.api.permissions import require_change, require_change_of
from tasks.api.serializers import ActionBody
from tasks.models import Task
from tasks.selectors.representation import task_json
from tasks.selectors.tasks import visible_task
from tasks.services.audited import audited_cancel, audited_retry
from tenants.access import ANYBODY, TenantView


class TaskAction(TenantView):
    """What both have in common: who may, on which task, and the answer."""

    # Two scopes allow it (see `require_change`), so the door itself asks for none.
    required_scopes: ClassVar = {"POST": ANYBODY}
    body = "optional"

    def changeable(self, task_id: uuid.UUID, values: Mapping[str, Any]) -> Task:
        """Return the task, if the caller may change it.

        Raises:
            ScopeRequired, NotFound, NotYours
        """
        require_change(self.actor, force=bool(values.get("force", False)))
        task = visible_task(self.actor, self.tenant, task_id)
        require_change_of(self.actor, task)
        return task

    def answer(self, task: Task, *, changed: bool) -> Response:
        """Return what the caller is told."""
        task.tenant = self.tenant
        return Response({"changed": changed, "task": task_json(task)})


class TaskCancel(TaskAction):
    """Ask a task to stop."""

    @extend_schema(operation_id="tasks_cancel", request=ActionBody, responses={200: dict[str, Any]})
    def post(self, request: Request, tenant: str, task_id: uuid.UUID) -> Response:
        """Cancel: a waiting task ends at once, a running one is asked to stop."""
        values = ActionBody.read(request.data)
        task = self.changeable(task_id, values)
        cancelled = audited_cancel(
            self.actor, task, reason=values.get("reason") or "", force=values.get("force", False)
        )
        return self.answer(cancelled.task, changed=cancelled.changed)


class TaskRetry(TaskAction):
    """Give an ended task a new life."""

    @extend_schema(operation_id="tasks_retry", request=ActionBody, responses={200: dict[str, Any]})
    def post(self, request: Request, tenant: str, task_id: uuid.UUID) -> Response:
        """Retry a failed, dropped or cancelled task; its old runs stay."""
        values = ActionBody.read(request.data)
        task = self.changeable(task_id, values)
        renewed = audited_retry(self.actor, task, reason=values.get("reason") or "")
        return self.answer(renewed, changed=True)
