"""A cap on request bodies before Django sees them, in bytes and in seconds.

Django spools a whole body to disk before any view or middleware runs, so a chunked body without a
length would fill the disk of the web process, and one that comes a byte a minute would keep its
connection for ever, for who has shown no credential. Here it is counted as it comes, and cut with 413
or 408.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from rest.errors import Problem, TooSlow
from rest.parsing import too_large
from rest.problems import early_response

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
# Django and Channels type the three arguments each in a way of their own.
Application = Callable[[Any, Any, Any], Awaitable[None]]


LEAST_RATE = 4 * 1024
"""Bytes a second that a body must have, all in all."""

BODY_SECONDS = 30.0
"""In which a body must have come, but for what :data:`LEAST_RATE` gives it for what has come."""


class _Refused(Exception):
    """The body has passed a cap."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem


class BodyLimit:
    """An ASGI application that refuses bodies above ``limit`` bytes or :data:`BODY_SECONDS`.

    One byte more passes too: what the parser can refuse by itself still reaches it.
    """

    def __init__(self, application: Application, limit: int) -> None:
        self._application = application
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count what `receive` gives; nothing has been sent when the cap is passed."""
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        seen = 0
        started = False
        deadline: float | None = asyncio.get_running_loop().time() + BODY_SECONDS

        async def counted() -> Message:
            nonlocal seen, deadline
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise _Refused(TooSlow()) from None
            if message["type"] == "http.request":
                seen += len(message.get("body", b""))
                if deadline is not None:
                    deadline += len(message.get("body", b"")) / LEAST_RATE
                if seen > self._limit + 1:
                    raise _Refused(too_large(self._limit))
            if not message.get("more_body", False):
                deadline = None  # from now on it is asked whether the client is still there
            return message

        async def noticed(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._application(scope, counted, noticed)
        except _Refused as refused:
            if not started:
                await self._refuse(refused.problem, scope, send)

    async def _refuse(self, problem: Problem, scope: Scope, send: Send) -> None:
        response = early_response(problem, scope)
        # What is left of the body is not read, so the connection cannot be used again.
        response["Connection"] = "close"
        headers = [(name.encode(), value.encode()) for name, value in response.items()]
        await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
        await send({"type": "http.response.body", "body": response.content})
