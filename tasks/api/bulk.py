"""``/tasks/actions/cancel`` and ``/retry``: the same for all that a filter finds, oldest first."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework.response import Response

from audit.services import record
from rest.errors import FieldError, ValidationFailed
from rest.parameters import Parameters
from rest.parsing import Request
from rest.strict_json import pointer_token
from tasks.api.permissions import may_change_all, require_change
from tasks.api.serializers import MAX_BULK, BulkBody
from tasks.models import Task
from tasks.selectors.filters import FILTERS, filter_tasks
from tasks.selectors.tasks import visible_tasks
from tasks.services.bulk import cancel_many, cancellable, retry_many, retryable
from tenants.access import ANYBODY, TenantView


class BulkAction(TenantView):
    """Do one thing to many tasks.

    The answer's ``matched`` and ``ids`` are the tasks that were picked: those that the filter finds,
    the caller may change and the action fits, oldest first, up to ``limit``. A dry run picks and
    changes none. What moved on between picking and changing, or has no room in its line, is left alone
    and makes ``changed`` the smaller number.
    """

    required_scopes: ClassVar = {"POST": ANYBODY}
    action: ClassVar[str]

    def eligible(self, tasks: QuerySet[Task]) -> QuerySet[Task]:
        """Narrow the tasks to those that the action fits."""
        raise NotImplementedError

    def change(self, ids: list[uuid.UUID], reason: str) -> list[uuid.UUID]:
        """Do it to the tasks; return those that it changed."""
        raise NotImplementedError

    def act(self, request: Request) -> Response:
        """Pick, and unless it is a dry run, change."""
        require_change(self.actor)
        values = BulkBody.read(request.data)
        found = read_filter(values["filter"], visible_tasks(self.tenant))
        if not may_change_all(self.actor):
            found = found.filter(submitter=self.actor.key)
        limit = values.get("limit") or MAX_BULK
        picked = list(self.eligible(found).order_by("ordinal").values_list("pk", flat=True)[:limit])
        changed = 0 if values.get("dry_run", False) else self.change_all(picked, values)
        ids = [str(task_id) for task_id in picked]
        return Response({"matched": len(picked), "changed": changed, "ids": ids})

    def change_all(self, picked: list[uuid.UUID], values: Mapping[str, Any]) -> int:
        """Change the picked tasks, leave one entry in the trail, and return how many changed."""
        reason = values.get("reason") or ""
        changed = self.change(picked, reason)
        if changed:
            record(
                actor=self.actor.name,
                action=f"task.{self.action}_many",
                object=f"tenant:{self.tenant.slug}",
                tenant_id=self.tenant.pk,
                reason=reason or self.actor.reason,
                data={"filter": values["filter"], "tasks": [str(task_id) for task_id in changed]},
            )
        return len(changed)


class BulkCancel(BulkAction):
    """Cancel many."""

    action = "cancel"

    @extend_schema(operation_id="tasks_cancel_many", request=BulkBody, responses={200: dict[str, Any]})
    def post(self, request: Request, tenant: str) -> Response:
        """Cancel the tasks that a filter finds and that nobody has asked to stop yet."""
        return self.act(request)

    def eligible(self, tasks: QuerySet[Task]) -> QuerySet[Task]:
        return cancellable(tasks)

    def change(self, ids: list[uuid.UUID], reason: str) -> list[uuid.UUID]:
        return cancel_many(ids, by=self.actor.name, reason=reason)


class BulkRetry(BulkAction):
    """Retry many."""

    action = "retry"

    @extend_schema(operation_id="tasks_retry_many", request=BulkBody, responses={200: dict[str, Any]})
    def post(self, request: Request, tenant: str) -> Response:
        """Retry the tasks that a filter finds; never those that somebody cancelled."""
        return self.act(request)

    def eligible(self, tasks: QuerySet[Task]) -> QuerySet[Task]:
        return retryable(tasks)

    def change(self, ids: list[uuid.UUID], reason: str) -> list[uuid.UUID]:
        return retry_many(ids, by=self.actor.name, reason=reason)


def read_filter(given: Mapping[str, Any], tasks: QuerySet[Task]) -> QuerySet[Task]:
    """Narrow ``tasks`` by a filter from a body: a text as in the query, a list of them, a boolean.

    Raises:
        ValidationFailed: pointing below ``/filter``.
    """
    wrong = [
        FieldError(_pointer(name), "unknown_parameter", "There is no such filter.")
        for name in given
        if name not in FILTERS
    ]
    if wrong:
        raise ValidationFailed(errors=wrong)
    values = {name: _as_query(name, value) for name, value in given.items()}
    try:
        return filter_tasks(tasks, Parameters(values))
    except ValidationFailed as refused:
        raise ValidationFailed(
            errors=[
                replace(error, pointer=_pointer(error.pointer.removeprefix("query:")))
                for error in refused.errors
            ]
        ) from None


def _as_query(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(isinstance(word, str) for word in value):
        return ",".join(value)
    raise ValidationFailed.at(_pointer(name), "type", "Give a text, a list of texts or a boolean.")


def _pointer(name: str) -> str:
    return f"/filter/{pointer_token(name)}"
