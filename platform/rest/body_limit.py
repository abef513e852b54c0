"""A cap on request bodies before Django sees them.

Django spools a whole body to disk before any view or middleware runs, so a chunked body without a
length would fill the disk of the web process. Here it is counted as it comes, and cut with 413.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from rest.parsing import too_large
from rest.problems import early_response

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
# Django and Channels type the three arguments each in a way of their own.
Application = Callable[[Any, Any, Any], Awaitable[None]]


class _TooLarge(Exception):
    """The body has passed the cap."""


class BodyLimit:
    """An ASGI application that answers 413 to bodies above ``limit`` bytes, and passes on the rest.

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

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            if message["type"] == "http.request":
                seen += len(message.get("body", b""))
                if seen > self._limit + 1:
                    raise _TooLarge
            return message

        async def noticed(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._application(scope, counted, noticed)
        except _TooLarge:
            if not started:
                await self._refuse(scope, send)

    async def _refuse(self, scope: Scope, send: Send) -> None:
        response = early_response(too_large(self._limit), scope)
        # What is left of the body is not read, so the connection cannot be used again.
        response["Connection"] = "close"
        headers = [(name.encode(), value.encode()) for name, value in response.items()]
        await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
        await send({"type": "http.response.body", "body": response.content})
