"""``/operator/{queues,task-types}/{name}/{pause,resume}`` and ``/operator/pauses``."""

from __future__ import annotations

from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema
from rest_framework.response import Response

from rest.pagination import PARAMETERS, page_of_few
from rest.parsing import Request
from tasks.api.serializers import ReasonBody
from tasks.models import Pause
from tasks.services.pauses import pause_json, pause_set
from tenants.access import OperatorView


class OperatorPauses(OperatorView):
    """What is paused for all tenants."""

    query_parameters: ClassVar = {"GET": PARAMETERS}

    @extend_schema(operation_id="operator_pauses_list", responses={200: dict[str, Any]})
    def get(self, request: Request) -> Response:
        """List paused queues and task types. A paused tenant says so itself."""
        page = page_of_few(
            request,
            self.parameters,
            Pause.objects.all(),
            pause_json,
            key=lambda pause: (pause.subject, pause.name),
        )
        return Response(page)


class _Change(OperatorView):
    """Pause or resume one thing; what runs goes on, what is submitted waits."""

    body = "optional"
    subject: ClassVar[str]
    paused: ClassVar[bool]

    def change(self, request: Request, name: str) -> Response:
        values = ReasonBody.read(request.data)
        changed = pause_set(
            actor=self.actor,
            subject=self.subject,
            name=name,
            paused=self.paused,
            reason=values.get("reason") or "",
        )
        return Response({"changed": changed, "paused": self.paused})


class QueuePause(_Change):
    """Nothing of the queue is dispatched any more."""

    subject, paused = "queue", True

    @extend_schema(
        operation_id="operator_queues_pause", request=ReasonBody, responses={200: dict[str, Any]}
    )
    def post(self, request: Request, name: str) -> Response:
        """Pause a queue."""
        return self.change(request, name)


class QueueResume(_Change):
    """The queue is dispatched again."""

    subject, paused = "queue", False

    @extend_schema(
        operation_id="operator_queues_resume", request=ReasonBody, responses={200: dict[str, Any]}
    )
    def post(self, request: Request, name: str) -> Response:
        """Resume a queue."""
        return self.change(request, name)


class TypePause(_Change):
    """No task of the type is dispatched any more."""

    subject, paused = "type", True

    @extend_schema(
        operation_id="operator_task_types_pause", request=ReasonBody, responses={200: dict[str, Any]}
    )
    def post(self, request: Request, name: str) -> Response:
        """Pause a task type."""
        return self.change(request, name)


class TypeResume(_Change):
    """Tasks of the type are dispatched again."""

    subject, paused = "type", False

    @extend_schema(
        operation_id="operator_task_types_resume", request=ReasonBody, responses={200: dict[str, Any]}
    )
    def post(self, request: Request, name: str) -> Response:
        """Resume a task type."""
        return self.change(request, name)
