"""``/tasks/{id}/cancel`` and ``/retry``."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, ClassVar

from django.db import transaction
from drf_spectacular.utils import extend_schema
from rest_framework.response import Response

from audit.services import record
from rest.parsing import Request
from rest.ties import again_on_ties
from tasks.api.permissions import require_change, require_change_of
from tasks.api.serializers import ActionBody
from tasks.models import Task
from tasks.selectors.representation import task_json
from tasks.selectors.tasks import visible_task
from tasks.services.cancel import Cancelled, cancel
from tasks.services.retry import retry
from tenants.access import ANYBODY, TenantView


class TaskAction(TenantView):
    """What both have in common: who may, on which task, and the trail."""

    # Two scopes allow it (see `require_change`), so the door itself asks for none.
    required_scopes: ClassVar = {"POST": ANYBODY}
    body = "optional"
    action: ClassVar[str]

    def changeable(self, task_id: uuid.UUID, values: Mapping[str, Any]) -> Task:
        """Return the task, if the caller may change it.

        Raises:
            ScopeRequired, NotFound, NotYours
        """
        require_change(self.actor, force=bool(values.get("force", False)))
        task = visible_task(self.actor, self.tenant, task_id)
        require_change_of(self.actor, task)
        return task

    def leave_trail(self, task: Task, values: Mapping[str, Any]) -> None:
        """Write the deed down, in its own transaction."""
        record(
            actor=self.actor.name,
            action=f"task.{self.action}",
            object=f"task:{task.pk}",
            tenant_id=self.tenant.pk,
            reason=values.get("reason") or self.actor.reason,
            data={"force": True} if values.get("force") else {},
        )

    def answer(self, task: Task, *, changed: bool) -> Response:
        """Return what the caller is told."""
        task.tenant = self.tenant
        return Response({"changed": changed, "task": task_json(task)})


class TaskCancel(TaskAction):
    """Ask a task to stop."""

    action = "cancel"

    @extend_schema(operation_id="tasks_cancel", request=ActionBody, responses={200: dict[str, Any]})
    def post(self, request: Request, tenant: str, task_id: uuid.UUID) -> Response:
        """Cancel: a waiting task ends at once, a running one is asked to stop."""
        values = ActionBody.read(request.data)
        task = self.changeable(task_id, values)
        cancelled = self.cancel(task, values)
        return self.answer(cancelled.task, changed=cancelled.changed)

    @again_on_ties
    def cancel(self, task: Task, values: Mapping[str, Any]) -> Cancelled:
        """Cancel and leave the trail in one transaction."""
        with transaction.atomic():
            cancelled = cancel(
                task.pk,
                by=self.actor.name,
                reason=values.get("reason") or "",
                force=values.get("force", False),
            )
            if cancelled.changed or values.get("force"):
                self.leave_trail(task, values)
        return cancelled


class TaskRetry(TaskAction):
    """Give an ended task a new life."""

    action = "retry"

    @extend_schema(operation_id="tasks_retry", request=ActionBody, responses={200: dict[str, Any]})
    def post(self, request: Request, tenant: str, task_id: uuid.UUID) -> Response:
        """Retry a failed, dropped or cancelled task; its old runs stay."""
        values = ActionBody.read(request.data)
        task = self.changeable(task_id, values)
        return self.answer(self.retry(task, values), changed=True)

    @again_on_ties
    def retry(self, task: Task, values: Mapping[str, Any]) -> Task:
        """Retry and leave the trail in one transaction."""
        with transaction.atomic():
            renewed = retry(task.pk, by=self.actor.name, reason=values.get("reason") or "")
            self.leave_trail(task, values)
        return renewed
