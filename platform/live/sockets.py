"""The live sockets: one task, a tenant's feed, and everything else under ``/ws/``.

Each is an ASGI application. It accepts, then says why it closes, because a browser cannot read the
status of a refused opening; only a cookie from a foreign page is refused outright.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any

import structlog

from live import codes
from live.codes import Gone, Goodbye, code_of
from live.connection import Connection, Receive, Send
from live.credentials import Visitor
from live.database import in_database
from live.feed import Cursor, present
from live.following import TaskGone, follow, follow_feed
from live.handshake import Opening
from live.seats import seat
from rest.errors import NotFound
from rest.links import came_by
from rest.parameters import Parameters
from rest.problems import as_problem
from tasks.selectors.representation import task_json
from tasks.selectors.tasks import visible_task
from tasks.services.consume import consume_end

Speech = Callable[[Connection, Visitor, Parameters, Any], Awaitable[None]]

log = structlog.get_logger(__name__)


async def task_socket(scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
    """``/ws/v1/tenants/{tenant}/tasks/{id}?after=SEQ``: snapshot, events, end."""
    await _serve(scope, receive, send, _tell_task)


async def feed_socket(scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
    """``/ws/v1/tenants/{tenant}/feed?after=CURSOR``: what happens to all tasks of a tenant."""
    await _serve(scope, receive, send, _tell_feed)


async def unknown_socket(scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
    """Every other address: there is nothing here, for nobody."""
    connection = Connection(scope, receive, send)
    await connection.accept(Opening.of(scope).subprotocol)
    await connection.close(Goodbye(codes.NOT_FOUND, NotFound.default_detail))


async def _serve(scope: Mapping[str, Any], receive: Receive, send: Send, speech: Speech) -> None:
    connection = Connection(scope, receive, send)
    opening = Opening.of(scope)
    if opening.is_cross_site:
        await connection.refuse()
        return
    await connection.accept(opening.subprotocol)
    try:
        with came_by(opening.headers.get("host", ""), secure=opening.secure):
            finished = await connection.converse(_admitted(connection, opening, speech))
        goodbye = Goodbye(codes.FINISHED) if finished else None
    except Gone:
        goodbye = None
    except Goodbye as said:
        goodbye = said
    except TaskGone:
        goodbye = Goodbye(codes.NOT_FOUND, "The task was deleted.")
    except Exception as exception:
        problem = as_problem(exception)
        if problem is None:
            log.exception("socket_failed", path=opening.path)
            goodbye = Goodbye(codes.BROKEN, "Something went wrong on our side.")
        else:
            goodbye = Goodbye(code_of(problem), problem.detail)
    if goodbye is not None:
        if goodbye.code != codes.FINISHED:
            log.info("socket_closed", path=opening.path, code=goodbye.code, reason=goodbye.reason)
        await connection.close(goodbye)


async def _admitted(connection: Connection, opening: Opening, speech: Speech) -> None:
    words = connection.scope["url_route"]["kwargs"]
    visitor = await in_database(opening.visitor)(words["tenant"])
    parameters = Parameters.parse(opening.query, ("after",))
    with seat(visitor.actor.key):
        await speech(connection, visitor, parameters, words.get("task_id"))


async def _tell_task(
    connection: Connection, visitor: Visitor, parameters: Parameters, wanted: uuid.UUID
) -> None:
    after = parameters.integer("after", None)
    task_id, shown, seq = await in_database(_snapshot)(visitor, wanted)
    if after is not None and after > seq:
        raise parameters.wrong("after", f"The task has {seq} events so far.")
    await connection.say({"kind": "snapshot", "task": shown, "seq": seq})
    async with aclosing(follow(task_id, seq if after is None else after)) as pages:
        async for page in pages:
            await visitor.look_again()
            for event in page.events:
                await connection.say(event)
            if page.ended:
                await connection.say({"kind": "end", "status": page.status, "seq": page.seq})
                await in_database(consume_end)(visitor.actor, task_id)
                return
    raise Goodbye(codes.RESTART, "The server restarts; reconnect with after.")


def _snapshot(visitor: Visitor, task_id: uuid.UUID) -> tuple[uuid.UUID, dict[str, Any], int]:
    task = visible_task(visitor.actor, visitor.tenant, task_id)
    return task.pk, task_json(task, operator=visitor.actor.operator), int(task.last_seq)


async def _tell_feed(connection: Connection, visitor: Visitor, parameters: Parameters, _: None) -> None:
    after = parameters.text("after", None, max_length=16_000)
    newest = await in_database(present)()
    cursor = newest if after is None else Cursor.read(after)
    if cursor.is_ahead_of(newest):
        raise parameters.wrong("after", "The cursor is ahead of the feed; connect without one.")
    await connection.say({"kind": "snapshot", "cursor": cursor.text()})
    async with aclosing(follow_feed(visitor.tenant.pk, cursor)) as readings:
        async for frames in readings:
            await visitor.look_again()
            for frame in frames:
                await connection.say(frame)
    raise Goodbye(codes.RESTART, "The server restarts; reconnect with after.")
