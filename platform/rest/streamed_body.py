"""Request bodies that a view draws itself, piece by piece, once it knows who sends them.

Django spools a whole body to disk before any view or middleware runs. For the views that say so
(``streamed_methods``), it is shown an empty body instead, and the view reads the real one from the
connection: nothing of a stranger's upload is ever taken in, and nothing is held in memory. What is
not read is thrown away by the server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from django.http import HttpRequest
from django.urls import Resolver404, resolve

from rest.body_limit import LEAST_RATE, Application, Message, Receive, Scope, Send
from rest.errors import BadRequest

BODY = "switchyard.body"
"""Where in the ASGI scope the view finds its body."""

SILENCE_SECONDS = 60
"""A client that sends nothing for so long has gone."""

GATHERED = 256 * 1024
"""Bytes that are collected before the reading thread is woken, where they come in small pieces."""


class IncompleteBody(BadRequest):
    """The connection ended, or fell silent, before the body did."""

    code = "incomplete_body"
    default_detail = "The body ended before it was complete; send it again."


class StreamedBody:
    """The body of one request. ``read`` is called from a thread, never from the event loop's."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._came = 0
        self._rest = b""
        self._ended = False
        self._shown = False

    def read(self, size: int) -> bytes:
        """Return at most ``size`` bytes, none at the end.

        Raises:
            IncompleteBody
        """
        if not self._rest and not self._ended:
            self._rest = asyncio.run_coroutine_threadsafe(self._gather(), self._loop).result()
        piece, self._rest = self._rest[:size], self._rest[size:]
        return piece

    async def shown_to_django(self) -> Message:
        """Be the ``receive`` of an application that sees no body, and never a disconnect."""
        if self._shown:
            await asyncio.Event().wait()
        self._shown = True
        return {"type": "http.request", "body": b"", "more_body": False}

    async def _gather(self) -> bytes:
        pieces: list[bytes] = []
        gathered = 0
        while not self._ended and gathered < GATHERED:
            try:
                async with asyncio.timeout(SILENCE_SECONDS):
                    message = await self._receive()
            except TimeoutError:
                raise IncompleteBody from None
            if message["type"] != "http.request":
                raise IncompleteBody
            pieces.append(message.get("body", b""))
            gathered += len(pieces[-1])
            self._came += len(pieces[-1])
            age = self._loop.time() - self._began
            # Each upload holds a thread and a file.
            if age > SILENCE_SECONDS and self._came < age * LEAST_RATE:
                raise IncompleteBody(f"An upload needs {LEAST_RATE:,} bytes a second; send it again.")
            self._ended = not message.get("more_body", False)
        return b"".join(pieces)


class StreamedBodies:
    """An ASGI application that withholds the bodies of some requests from ``application``.

    All other requests go to ``others``.
    """

    def __init__(self, application: Application, others: Application) -> None:
        self._application = application
        self._others = others

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request on, with or without its body."""
        if scope["type"] != "http" or not _is_streamed(scope["method"], scope["path"]):
            await self._others(scope, receive, send)
            return
        body = StreamedBody(receive)
        await self._application({**scope, BODY: body}, body.shown_to_django, send)


def reader_of(request: HttpRequest) -> Callable[[int], bytes]:
    """Return how a view reads its streamed body; see :class:`StreamedBody`."""
    body: Any = getattr(request, "scope", {}).get(BODY)
    return request.read if body is None else body.read


def _is_streamed(method: str, path: str) -> bool:
    if method != "PUT":
        return False
    try:
        view = resolve(path).func
    except Resolver404:
        return False
    return method in getattr(getattr(view, "cls", None), "streamed_methods", ())
