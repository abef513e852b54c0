"""One id per request: taken from ``X-Request-ID`` or made, echoed, and on all that it causes."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from structlog.contextvars import bound_contextvars
from uuid_utils.compat import uuid7

HEADER = "X-Request-ID"
_VALID = re.compile(r"[A-Za-z0-9._-]{1,128}")

Answer = HttpResponseBase | Awaitable[HttpResponseBase]


def request_id_of(request: object) -> str:
    """Return the id that the middleware gave to this request (of Django or of DRF), or ``""``."""
    return str(getattr(request, "request_id", ""))


_current: ContextVar[str] = ContextVar("current_request_id", default="")


def current_request_id() -> str:
    """Return the id of the request that is being answered here, or ``""``, as in every worker.

    Not taken from what log lines bear: those of a run bear the request that submitted its task.
    """
    return _current.get()


@contextmanager
def answering(request_id: str) -> Iterator[None]:
    """Let what is written meanwhile (log lines, events, the trail) name the request it is due to."""
    token = _current.set(request_id)
    try:
        with bound_contextvars(request_id=request_id):
            yield
    finally:
        _current.reset(token)


def choose(offered: str | None) -> str:
    """Keep the caller's id when it is harmless in a log and a header; else make one."""
    if offered and _VALID.fullmatch(offered):
        return offered
    return str(uuid7())


def choose_for(scope: Mapping[str, Any]) -> str:
    """Return the id for an ASGI scope of which no request was made, by the rule of :func:`choose`."""
    name = HEADER.lower().encode()
    offered = next((value for key, value in scope["headers"] if key.lower() == name), None)
    return choose(offered.decode("latin-1") if offered is not None else None)


class RequestIdMiddleware:
    """Give the request its id; runs in the event loop under ASGI, without a thread of its own."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Answer]) -> None:
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Answer:
        chosen = choose(request.headers.get(HEADER))
        request.request_id = chosen  # type: ignore[attr-defined]
        if self.is_async:
            return self._later(request, chosen)
        with answering(chosen):
            response = cast(HttpResponseBase, self.get_response(request))
        response[HEADER] = chosen
        return response

    async def _later(self, request: HttpRequest, chosen: str) -> HttpResponseBase:
        with answering(chosen):
            response = await cast(Awaitable[HttpResponseBase], self.get_response(request))
        response[HEADER] = chosen
        return response
