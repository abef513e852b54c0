"""Django's ASGI handler with one thread hop for a synchronous request.

Stock Django crosses from the event loop into a thread, and back, for each hook of each synchronous
middleware, for its signals, for the view and for closing the answer: sixteen times with our settings, in
a thread that is started for this request alone. Measured, these crossings took longer than the
transaction of a submission. Here a request whose view is synchronous crosses once: the same
middleware, as a synchronous chain, in a thread that is kept. Requests of asynchronous views (streams,
long polls) go Django's way, because they must not hold a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import lru_cache
from typing import IO, Any

from asgiref.sync import ThreadSensitiveContext, iscoroutinefunction, sync_to_async
from django.conf import settings
from django.core import signals
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler, ASGIRequest, get_script_prefix
from django.core.handlers.base import BaseHandler
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import Resolver404, ResolverMatch, resolve, set_script_prefix
from django.utils.http import parse_header_parameters

from rest.errors import Problem, ValidationFailed
from rest.problems import early_response

# As Django types them.
Scope = dict[str, Any]
Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

THREADS = 256
"""More than may wait for a database connection, so that those beyond are refused at once."""

EVENT_STREAM = b"text/event-stream"

ADDRESSES_KEPT, LONGEST_KEPT = 1024, 200
"""So many addresses, of so few characters, are looked up once: Django tries pattern after pattern."""


class _Request(ASGIRequest):
    """A request of which a head that cannot be read is the client's mistake, not ours.

    Forms are UTF-8 whatever charset they name (the API refuses another, ``rest.parsing``). Django would
    decode by any codec of Python that is named, also by those that decode no text.
    """

    def _set_content_type_params(self, meta: dict[str, Any]) -> None:
        try:
            read = parse_header_parameters(meta.get("CONTENT_TYPE", ""))
        except (ValueError, TypeError):  # what the parser of the standard library raises
            raise ValidationFailed.at(
                "header:Content-Type", "invalid", "Write it as a type alone, such as application/json."
            ) from None
        self.content_type, self.content_params = read


class StockHandler(ASGIHandler):
    """Django's handler, but for what cannot be made a request: that too is told as a problem."""

    request_class = _Request

    def create_request(
        self, scope: Message, body_file: IO[bytes]
    ) -> tuple[ASGIRequest, None] | tuple[None, HttpResponse]:
        """Return the request, or the answer where there can be none."""
        problem: Problem
        try:
            return self.request_class(scope, body_file), None
        except UnicodeDecodeError:
            problem = ValidationFailed.at("query:", "encoding", "Parameters must be UTF-8.")
        except Problem as refused:
            problem = refused
        return None, early_response(problem, scope)


class _Chain(BaseHandler):
    """The middleware as one synchronous chain, for requests whose view has been found already."""

    def resolve_request(self, request: HttpRequest) -> Any:
        """Take the match that chose this chain, instead of matching the address again."""
        match = getattr(request, "found", None)
        if match is None:
            return super().resolve_request(request)
        request.resolver_match = match
        return match


class Handler(StockHandler):
    """An ASGI application like Django's own (:func:`django.core.asgi.get_asgi_application`)."""

    def __init__(self) -> None:
        super().__init__()
        self._chain = _Chain()
        self._chain.load_middleware(is_async=False)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="request")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, by the way that its view asks for."""
        match = _match(scope)
        if match is not None and iscoroutinefunction(match.func):
            page = getattr(match.func, "page", None)
            if page is None or _wants_stream(scope):
                await super().__call__(scope, receive, send)
                return
            match.func = page
        try:
            body = await self.read_body(receive)
        except RequestAborted:
            return
        loop = asyncio.get_running_loop()
        run = copy_context().run
        response = await loop.run_in_executor(self._threads, run, self._answer, scope, body, match)
        if not response.streaming:
            await self.send_response(response, send)
            return
        async with ThreadSensitiveContext():
            try:
                await self.send_response(response, send)
            finally:
                await sync_to_async(response.close)()

    def _answer(self, scope: Scope, body: IO[bytes], match: ResolverMatch | None) -> HttpResponseBase:
        """Do all that needs a thread; an answer that is no stream is closed at its end."""
        set_script_prefix(get_script_prefix(scope))
        signals.request_started.send(sender=self.__class__, scope=scope)
        response: Any
        request, response = self.create_request(scope, body)
        if request is not None:
            request.found = match  # type: ignore[attr-defined]
            response = self._chain.get_response(request)
        response._handler_class = self.__class__
        if not response.streaming:
            # Sends request_finished, which gives the database connection back before the client reads.
            response.close()
            body.close()
        answer: HttpResponseBase = response
        return answer


def _match(scope: Scope) -> ResolverMatch | None:
    """Return what the address leads to; None is left to the chain, which answers 404."""
    path = scope["path"]
    try:
        known = _found(path, settings.ROOT_URLCONF) if len(path) <= LONGEST_KEPT else resolve(path)
    except Resolver404:
        return None
    # One of this request's own, which may change it.
    match = ResolverMatch.__new__(ResolverMatch)
    match.__dict__ = {**known.__dict__, "kwargs": dict(known.kwargs)}
    return match


@lru_cache(ADDRESSES_KEPT)
def _found(path: str, urlconf: str) -> ResolverMatch:
    """Return the match of an address, which may be asked for again: submissions are all at one."""
    return resolve(path, urlconf)


def _wants_stream(scope: Scope) -> bool:
    return any(name == b"accept" and EVENT_STREAM in value.lower() for name, value in scope["headers"])
