"""``/tasks/{id}/events`` and ``/log`` as pages and as plain text.

Following them live (``text/event-stream``) is in front of these, at the same addresses.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, ClassVar
from urllib.parse import urlencode

from asgiref.sync import sync_to_async
from django.http import StreamingHttpResponse
from django.http.response import HttpResponseBase
from drf_spectacular.utils import extend_schema
from rest_framework.response import Response

from rest.links import site
from rest.pagination import DEFAULT_LIMIT, MAX_LIMIT
from rest.parameters import Parameters
from rest.parsing import Request
from tasks.models.history import KINDS
from tasks.selectors import log_filter
from tasks.selectors.history import events_after, log_lines
from tasks.selectors.log_filter import LogFilter
from tasks.selectors.tasks import visible_task
from tenants.access import TenantView

EVENT_PARAMETERS = ("after", "limit", "kinds")
LOG_PARAMETERS = (*log_filter.PARAMETERS, "limit")
TEXT = "text/plain"
LINES_AT_ONCE = 1000


class EventsView(TenantView):
    """What happened to a task, oldest first."""

    required_scopes: ClassVar = {"GET": "tasks:read"}
    query_parameters: ClassVar = {"GET": EVENT_PARAMETERS}

    @extend_schema(operation_id="events_list", responses={200: dict[str, Any]})
    def get(self, request: Request, tenant: str, task_id: uuid.UUID) -> Response:
        """List events with a number above ``after``; ``next`` is null when there are no more yet."""
        task = visible_task(self.actor, self.tenant, task_id)
        after = self.parameters.integer("after", 0)
        limit = self.parameters.integer("limit", DEFAULT_LIMIT, minimum=1, maximum=MAX_LIMIT)
        kinds = self.parameters.choices("kinds", {kind: kind for kind in (*KINDS, "log")})
        found = events_after(
            task.pk, after, limit=limit + 1, kinds=None if kinds is None else set(kinds)
        )
        shown = found[:limit]
        following = str(shown[-1]["seq"]) if len(found) > limit else None
        return Response(_page(request, self.parameters, shown, following))


class LogView(TenantView):
    """What a task's runs printed, in the order of arrival."""

    required_scopes: ClassVar = {"GET": "tasks:read"}
    query_parameters: ClassVar = {"GET": LOG_PARAMETERS}
    media_types: ClassVar = ("application/json", TEXT)

    @extend_schema(
        operation_id="log_read",
        responses={(200, "application/json"): dict[str, Any], (200, TEXT): str},
    )
    def get(self, request: Request, tenant: str, task_id: uuid.UUID) -> HttpResponseBase:
        """List lines, or with ``Accept: text/plain`` send all that the filters leave as text.

        ``after`` is the number of an event, or ``SEQ.N`` for a line within one, as in ``next``.
        """
        task = visible_task(self.actor, self.tenant, task_id)
        limit = self.parameters.integer("limit", None, minimum=1, maximum=MAX_LIMIT)
        wanted = LogFilter.read(self.parameters)
        if request.accepted_media_type == TEXT:
            return StreamingHttpResponse(
                _text(task.pk, wanted, limit), content_type=f"{TEXT}; charset=utf-8"
            )
        limit = DEFAULT_LIMIT if limit is None else limit
        found = log_lines(task.pk, wanted, limit=limit + 1)
        shown = found[:limit]
        following = f"{shown[-1]['seq']}.{shown[-1]['n']}" if len(found) > limit else None
        return Response(_page(request, self.parameters, shown, following))


async def _text(task_id: uuid.UUID, wanted: LogFilter, limit: int | None) -> AsyncIterator[str]:
    """Yield the text in pieces, so that a log of any size passes through a few lines of memory."""
    left = limit
    while left is None or left > 0:
        count = LINES_AT_ONCE if left is None else min(left, LINES_AT_ONCE)
        lines = await sync_to_async(log_lines)(task_id, wanted, limit=count)
        if lines:
            yield "".join(f"{line['text']}\n" for line in lines)
            wanted = replace(wanted, after=(lines[-1]["seq"], lines[-1]["n"]))
        if len(lines) < count:
            return
        left = None if left is None else left - count


def _page(
    request: Request, parameters: Parameters, shown: list[dict[str, Any]], following: str | None
) -> dict[str, Any]:
    """Return one page; these lists only go forward, so there is no ``previous``."""
    link = None
    if following is not None:
        query = urlencode({**parameters.values, "after": following})
        link = f"{site()}{request.path}?{query}"
    return {"results": shown, "next": link, "previous": None}
