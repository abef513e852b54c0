"""``/operator/{tasks,workers,queues,lanes}``: the whole platform, for its operators."""

from __future__ import annotations

import uuid
from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema
from rest_framework.response import Response

from rest.errors import NotFound
from rest.pagination import PARAMETERS, page_of, page_of_few
from rest.parsing import Request
from tasks.api.serializers import ReasonBody
from tasks.clock import database_now
from tasks.models import Lane, Task, Worker
from tasks.models.workers import WORKER_STATUSES
from tasks.selectors.filters import FILTERS, QUEUE_NAMES, filter_tasks
from tasks.selectors.machinery import (
    ALIVE,
    lanes_json,
    queue_json,
    queue_states,
    worker_json,
)
from tasks.selectors.representation import tasks_json
from tasks.services.workers import worker_drain
from tasks.states import Queue
from tenants.access import OperatorView


class OperatorTasks(OperatorView):
    """The tasks of all tenants, with their runs, workers and processes."""

    query_parameters: ClassVar = {"GET": (*PARAMETERS, *FILTERS, "tenant")}

    @extend_schema(operation_id="operator_tasks_list", responses={200: dict[str, Any]})
    def get(self, request: Request) -> Response:
        """List tasks, newest first; the filters of a tenant's list, and ``tenant`` (slugs)."""
        found = filter_tasks(Task.objects.select_related("tenant"), self.parameters)
        slugs = self.parameters.words("tenant", max_length=50)
        if slugs is not None:
            found = found.filter(tenant__slug__in=slugs)
        page = page_of(request, self.parameters, found, lambda task: task, column="ordinal")
        page["results"] = tasks_json(page["results"], operator=True, runs=True)
        return Response(page)


class OperatorWorkers(OperatorView):
    """The worker processes of all machines."""

    query_parameters: ClassVar = {"GET": (*PARAMETERS, "status", "queue")}

    @extend_schema(operation_id="operator_workers_list", responses={200: dict[str, Any]})
    def get(self, request: Request) -> Response:
        """List the living workers; ``status`` (alive, draining, lost, gone) asks for others."""
        statuses = self.parameters.choices("status", {name: name for name in WORKER_STATUSES})
        found = Worker.objects.filter(status__in=ALIVE if statuses is None else statuses)
        queues = self.parameters.choices("queue", QUEUE_NAMES)
        if queues is not None:
            found = found.filter(queue__in=queues)
        return Response(page_of(request, self.parameters, found, worker_json))


class OperatorWorkerDrain(OperatorView):
    """A worker process's end, by its operator's wish."""

    body = "optional"

    @extend_schema(
        operation_id="operator_workers_drain", request=ReasonBody, responses={200: dict[str, Any]}
    )
    def post(self, request: Request, worker: str) -> Response:
        """Let a worker finish what it runs and end, once its machine has started another."""
        reason = ReasonBody.read(request.data).get("reason") or ""
        try:
            worker_id = uuid.UUID(worker)
            changed = worker_drain(worker_id, actor=self.actor.name, reason=reason)
        except (ValueError, Worker.DoesNotExist):
            raise NotFound() from None
        shown = worker_json(Worker.objects.get(pk=worker_id))
        return Response({"changed": changed, "worker": shown})


class OperatorQueues(OperatorView):
    """The three queues."""

    query_parameters: ClassVar = {"GET": PARAMETERS}

    @extend_schema(operation_id="operator_queues_list", responses={200: dict[str, Any]})
    def get(self, request: Request) -> Response:
        """Count what waits and runs in each queue, and the seconds of the longest wait."""
        now = database_now()
        page = page_of_few(
            request,
            self.parameters,
            queue_states(),
            lambda state: queue_json(state, now),
            key=lambda state: (list(Queue).index(Queue(state.name)),),
        )
        return Response(page)


class OperatorLanes(OperatorView):
    """Each tenant's line in each queue, as the dispatcher saw it within the last second."""

    query_parameters: ClassVar = {"GET": (*PARAMETERS, "queue")}

    @extend_schema(operation_id="operator_lanes_list", responses={200: dict[str, Any]})
    def get(self, request: Request) -> Response:
        """List lanes: what waits, what runs, and what holds them."""
        found = Lane.objects.all()
        queues = self.parameters.choices("queue", QUEUE_NAMES)
        if queues is not None:
            found = found.filter(queue__in=queues)
        page = page_of(request, self.parameters, found, lambda lane: lane)
        page["results"] = lanes_json(page["results"])
        return Response(page)
