"""``/tasks/{id}/wait``: an answer that comes when the task has ended, or when the time is up."""

from __future__ import annotations

import asyncio
import re
import uuid
from contextlib import suppress
from typing import Any, ClassVar

from asgiref.sync import sync_to_async
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from drf_spectacular.utils import extend_schema
from rest_framework.response import Response

from live.credentials import admit, credential_of_request
from live.database import in_database
from live.following import until_ended
from live.seats import seat
from rest.parameters import Parameters
from rest.parsing import Request
from rest.views import answering_problems
from tasks.selectors.representation import task_json
from tasks.selectors.tasks import visible_task
from tasks.services.consume import consume
from tenants.access import TenantView, operator_reason

DEFAULT_SECONDS = 30.0
MOST_SECONDS = 300.0
_SECONDS = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3})?")


class Wait(TenantView):
    """A task, as it is when the waiting is over."""

    required_scopes: ClassVar = {"GET": "tasks:read"}
    query_parameters: ClassVar = {"GET": ("timeout",)}

    @extend_schema(operation_id="tasks_wait", responses={200: dict[str, Any]})
    def get(self, request: Request, tenant: str, task_id: uuid.UUID) -> Response:
        """Wait at most ``timeout`` seconds (0 to 300) for the task's end; ``status`` tells."""
        read_timeout(self.parameters)
        task = visible_task(self.actor, self.tenant, task_id)
        consume(self.actor, task)
        return Response(task_json(task, operator=self.actor.operator, detail=True))


_answer = Wait.as_view()


@answering_problems
async def wait(request: HttpRequest, tenant: str, task_id: uuid.UUID) -> HttpResponseBase:
    """Wait without holding a thread or a database connection, then let :class:`Wait` answer."""
    if request.method == "GET":
        await _until_over(request, tenant, task_id)
    response: HttpResponseBase = await sync_to_async(_answer)(request, tenant=tenant, task_id=task_id)
    return response


# The OpenAPI document is made from what views carry.
wait.cls = Wait  # type: ignore[attr-defined]
wait.initkwargs = {}  # type: ignore[attr-defined]


async def _until_over(request: HttpRequest, slug: str, task_id: uuid.UUID) -> None:
    query = str(request.META.get("QUERY_STRING", ""))
    timeout = read_timeout(Parameters.parse(query, ("timeout",)))
    key = await in_database(_open)(request, slug, task_id)
    with seat(key), suppress(TimeoutError):
        async with asyncio.timeout(timeout):
            await until_ended(task_id)


def _open(request: HttpRequest, slug: str, task_id: uuid.UUID) -> str:
    visitor = admit(credential_of_request(request), slug, reason=operator_reason(request))
    visible_task(visitor.actor, visitor.tenant, task_id)
    return visitor.actor.key


def read_timeout(parameters: Parameters) -> float:
    """Read ``timeout``, a number of seconds.

    Raises:
        ValidationFailed
    """
    text = parameters.text("timeout", str(DEFAULT_SECONDS)) or ""
    if not _SECONDS.fullmatch(text) or float(text) > MOST_SECONDS:
        raise parameters.wrong("timeout", f"Give a number of seconds from 0 to {MOST_SECONDS:g}.")
    return float(text)
