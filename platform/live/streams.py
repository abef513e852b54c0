"""``text/event-stream`` on a task's events and log: server-sent events, for CI and the command.

Each message's ``id`` is the event's number, so whoever reconnects with ``Last-Event-ID`` (browsers
do by themselves) or ``after`` goes on where it stopped. The last message is ``event: end``.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
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
from tasks.models.history import KINDS, STREAMS
from tasks.selectors.tasks import visible_task
from tasks.services.consume import consume_end
from tenants.access import operator_reason

MEDIA_TYPE = "text/event-stream"
STILL_HERE = ": still here\n\n"
RETRY = "retry: 1000\n\n"
"""Tells browsers to reconnect after a second."""

Wanted = Callable[[dict[str, Any]], bool]

log = structlog.get_logger(__name__)


@answering_problems
async def events_stream(request: HttpRequest, tenant: str, task_id: uuid.UUID) -> HttpResponseBase:
    """Follow a task's events. Takes ``after`` and ``kinds``."""
    parameters = Parameters.parse(_query(request), ("after", "kinds"))
    kinds = parameters.choices("kinds", {kind: kind for kind in (*KINDS, "log")})
    return await _answer(
        request, tenant, task_id, parameters, lambda event: kinds is None or event["kind"] in kinds
    )


@answering_problems
async def log_stream(request: HttpRequest, tenant: str, task_id: uuid.UUID) -> HttpResponseBase:
    """Follow a task's log. Takes ``after``, ``run`` and ``stream``."""
    parameters = Parameters.parse(_query(request), ("after", "run", "stream"))
    run = parameters.integer("run", None, minimum=1, maximum=2**31 - 1)
    streams = parameters.choices("stream", {name: name for name in STREAMS})

    def wanted(event: dict[str, Any]) -> bool:
        return (
            event["kind"] == "log"
            and run in (None, event["run"])
            and (streams is None or event["data"]["stream"] in streams)
        )

    return await _answer(request, tenant, task_id, parameters, wanted)


async def _answer(
    request: HttpRequest, slug: str, task_id: uuid.UUID, parameters: Parameters, wanted: Wanted
) -> HttpResponseBase:
    visitor, after = await in_database(_open)(request, slug, task_id, parameters)
    response = StreamingHttpResponse(
        _messages(visitor, task_id, after, wanted), content_type=f"{MEDIA_TYPE}; charset=utf-8"
    )
    response["Cache-Control"] = "no-cache"
    response["X-Accel-Buffering"] = "no"
    return response


def _open(
    request: HttpRequest, slug: str, task_id: uuid.UUID, parameters: Parameters
) -> tuple[Visitor, int]:
    visitor = admit(credential_of_request(request), slug, reason=operator_reason(request))
    task = visible_task(visitor.actor, visitor.tenant, task_id)
    require_seat(visitor.actor.key)
    after = _after(request, parameters)
    if after > task.last_seq:
        raise parameters.wrong("after", f"The task has {task.last_seq} events so far.")
    return visitor, after


def _after(request: HttpRequest, parameters: Parameters) -> int:
    """Return where to begin; a reconnecting browser repeats the address, so its header wins."""
    known = request.headers.get("Last-Event-ID", "")
    if known.isascii() and known.isdigit() and len(known) < 19:
        return int(known)
    return parameters.integer("after", 0)


async def _messages(
    visitor: Visitor, task_id: uuid.UUID, after: int, wanted: Wanted
) -> AsyncGenerator[str, None]:
    """Yield the stream. Whatever ends it early, the client learns why when it reconnects."""
    yield RETRY
    said_at = time.monotonic()
    try:
        with seat(visitor.actor.key):
            async with aclosing(follow(task_id, after)) as pages:
                async for page in pages:
                    await visitor.look_again()
                    text = _text(page, wanted)
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


def _text(page: Page, wanted: Wanted) -> str:
    parts = [f"id: {event['seq']}\ndata: {write(event)}\n\n" for event in filter(wanted, page.events)]
    if page.ended:
        end = {"kind": "end", "status": page.status, "seq": page.seq}
        parts.append(f"id: {page.seq}\nevent: end\ndata: {write(end)}\n\n")
    return "".join(parts)


def _query(request: HttpRequest) -> str:
    return str(request.META.get("QUERY_STRING", ""))
