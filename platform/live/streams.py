"""``text/event-stream`` on a task's events and log: server-sent events, for CI and the command.

Each message's ``id`` is the event's number, so whoever reconnects with ``Last-Event-ID`` (browsers
do by themselves) or ``after`` goes on where it stopped. The last message is ``event: end``.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import structlog
from django.http import HttpRequest, StreamingHttpResponse
from django.http.response import HttpResponseBase

from live import limits
from live.credentials import Visitor, admit, credential_of_request
from live.database import in_database
from live.following import Page, TaskGone, follow
from live.frames import write
from live.seats import require_seat, seat
from rest.database_errors import is_outage
from rest.errors import Problem
from rest.parameters import Parameters
from rest.views import answering_problems
from tasks.models.history import KINDS
from tasks.selectors import log_filter
from tasks.selectors.log_filter import LogFilter
from tasks.selectors.tasks import visible_task
from tasks.services.consume import consume_end
from tenants.access import operator_reason

MEDIA_TYPE = "text/event-stream"
STILL_HERE = ": still here\n\n"
RETRY = "retry: 1000\n\n"
"""Tells browsers to reconnect after a second."""

Narrow = Callable[[dict[str, Any]], dict[str, Any] | None]
"""Gives what of an event the client wants to see, None where that is nothing."""

log = structlog.get_logger(__name__)


@answering_problems
async def events_stream(request: HttpRequest, tenant: str, task_id: uuid.UUID) -> HttpResponseBase:
    """Follow a task's events. Takes ``after`` and ``kinds``."""
    parameters = Parameters.parse(_query(request), ("after", "kinds"))
    kinds = parameters.choices("kinds", {kind: kind for kind in (*KINDS, "log")})
    known = _last_event_id(request)
    after = parameters.integer("after", 0) if known is None else known

    def narrow(event: dict[str, Any]) -> dict[str, Any] | None:
        return event if kinds is None or event["kind"] in kinds else None

    return await _answer(request, tenant, task_id, parameters, after, narrow)


@answering_problems
async def log_stream(request: HttpRequest, tenant: str, task_id: uuid.UUID) -> HttpResponseBase:
    """Follow a task's log. Takes what the page of it takes, but for ``limit``.

    Also the position ``SEQ.N`` of a page's ``next``: of that event the lines up to N are left out.
    """
    parameters = Parameters.parse(_query(request), log_filter.PARAMETERS)
    wanted = LogFilter.read(parameters)
    known = _last_event_id(request)
    if known is not None:
        wanted = replace(wanted, after=(known, log_filter.ALL_LINES))
    return await _answer(request, tenant, task_id, parameters, wanted.begins_after, wanted.narrow)


async def _answer(
    request: HttpRequest,
    slug: str,
    task_id: uuid.UUID,
    parameters: Parameters,
    after: int,
    narrow: Narrow,
) -> HttpResponseBase:
    visitor = await in_database(_open)(request, slug, task_id, parameters, after)
    response = StreamingHttpResponse(
        _messages(visitor, task_id, after, narrow), content_type=f"{MEDIA_TYPE}; charset=utf-8"
    )
    response["Cache-Control"] = "no-cache"
    response["X-Accel-Buffering"] = "no"
    return response


def _open(
    request: HttpRequest, slug: str, task_id: uuid.UUID, parameters: Parameters, after: int
) -> Visitor:
    visitor = admit(credential_of_request(request), slug, reason=operator_reason(request))
    task = visible_task(visitor.actor, visitor.tenant, task_id)
    require_seat(visitor.actor.key)
    if after > task.last_seq:
        raise parameters.wrong("after", f"The task has {task.last_seq} events so far.")
    return visitor


def _last_event_id(request: HttpRequest) -> int | None:
    """Return where a browser left off: it repeats the address, so this wins over ``after``."""
    known = request.headers.get("Last-Event-ID", "")
    return int(known) if known.isascii() and known.isdigit() and len(known) < 19 else None


async def _messages(
    visitor: Visitor, task_id: uuid.UUID, after: int, narrow: Narrow
) -> AsyncGenerator[str, None]:
    """Yield the stream. Whatever ends it early, the client learns why when it reconnects."""
    yield RETRY
    said_at = time.monotonic()
    try:
        with seat(visitor.actor.key):
            async with aclosing(follow(task_id, after)) as pages:
                async for page in pages:
                    await visitor.look_again()
                    text = _text(page, narrow)
                    if not text and time.monotonic() - said_at >= limits.HEARTBEAT:
                        text = STILL_HERE
                    if text:
                        yield text
                        said_at = time.monotonic()
                    if page.ended:
                        # Asked for again only by who has taken the text: the end was delivered.
                        await in_database(consume_end)(visitor.actor, task_id)
    except (Problem, TaskGone) as reason:
        log.info("stream_ended", task=str(task_id), reason=str(reason))
    except Exception as error:
        if not is_outage(error):
            raise
        log.warning("stream_ended", task=str(task_id), reason=str(error))


def _text(page: Page, narrow: Narrow) -> str:
    shown = (event for event in map(narrow, page.events) if event is not None)
    parts = [f"id: {event['seq']}\ndata: {write(event)}\n\n" for event in shown]
    if page.ended:
        end = {"kind": "end", "status": page.status, "seq": page.seq}
        parts.append(f"id: {page.seq}\nevent: end\ndata: {write(end)}\n\n")
    return "".join(parts)


def _query(request: HttpRequest) -> str:
    return str(request.META.get("QUERY_STRING", ""))
