"""``/tasks/actions/cancel`` and ``/retry``: the same for all that a filter finds, oldest first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework.response import Response

from audit.services import record
from rest.errors import Conflict, FieldError, ValidationFailed
from rest.parameters import Parameters
from rest.parsing import Request
from rest.strict_json import pointer_token
from tasks.api.permissions import may_change_all, require_change
from tasks.api.serializers import BulkBody
from tasks.models import Task
from tasks.selectors.filters import FILTERS, filter_tasks
from tasks.selectors.tasks import visible_tasks
from tasks.services.cancel import cancel
from tasks.services.retry import RETRYABLE, retry
from tasks.states import Reason, Status
from tenants.access import ANYBODY, TenantView

DEFAULT_LIMIT = 100


class BulkAction(TenantView):
    """Do one thing to many tasks.

    The answer's ``matched`` and ``ids`` are the tasks that were picked: those that the filter finds,
    the caller may change and the action fits, oldest first, up to ``limit``. A dry run picks and
    changes none. Each task is changed in a transaction of its own; one that moved on meanwhile is
    left alone and makes ``changed`` the smaller number.
    """

    required_scopes: ClassVar = {"POST": ANYBODY}
    action: ClassVar[str]

    def eligible(self, tasks: QuerySet[Task]) -> QuerySet[Task]:
        """Narrow the tasks to those that the action fits."""
        raise NotImplementedError

    def change(self, task: Task, reason: str) -> bool:
        """Do it to one task; return whether that changed anything.

        Raises:
            Conflict: it does not fit any more.
        """
        raise NotImplementedError

    def act(self, request: Request) -> Response:
        """Pick, and unless it is a dry run, change."""
        require_change(self.actor)
        values = BulkBody.read(request.data)
        found = read_filter(values["filter"], visible_tasks(self.tenant))
        if not may_change_all(self.actor):
            found = found.filter(submitter=self.actor.key)
        limit = values.get("limit", DEFAULT_LIMIT)
        picked = list(self.eligible(found).order_by("ordinal")[:limit])
        changed = 0
        if not values.get("dry_run", False):
            changed = self.change_all(picked, values)
        ids = [str(task.pk) for task in picked]
        return Response({"matched": len(picked), "changed": changed, "ids": ids})

    def change_all(self, picked: list[Task], values: Mapping[str, Any]) -> int:
        """Change each picked task, leave one entry in the trail, and return how many changed."""
        reason = values.get("reason") or ""
        changed = []
        for task in picked:
            try:
                if self.change(task, reason):
                    changed.append(str(task.pk))
            except Conflict:
                continue
        if changed:
            record(
                actor=self.actor.name,
                action=f"task.{self.action}_many",
                object=f"tenant:{self.tenant.slug}",
                tenant_id=self.tenant.pk,
                reason=reason or self.actor.reason,
                data={"filter": values["filter"], "tasks": changed},
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
        return tasks.filter(finished_at__isnull=True, cancel_requested_at__isnull=True)

    def change(self, task: Task, reason: str) -> bool:
        return cancel(task.pk, by=self.actor.name, reason=reason).changed


class BulkRetry(BulkAction):
    """Retry many."""

    action = "retry"

    @extend_schema(operation_id="tasks_retry_many", request=BulkBody, responses={200: dict[str, Any]})
    def post(self, request: Request, tenant: str) -> Response:
        """Retry the tasks that a filter finds; never those that a user cancelled."""
        return self.act(request)

    def eligible(self, tasks: QuerySet[Task]) -> QuerySet[Task]:
        return tasks.filter(status__in=RETRYABLE).exclude(
            status=Status.CANCELLED, status_reason=Reason.USER_CANCELLED
        )

    def change(self, task: Task, reason: str) -> bool:
        retry(task.pk, by=self.actor.name)
        return True


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
