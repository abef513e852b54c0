"""One id per request: taken from ``X-Request-ID`` or made, echoed, and on all that it causes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from structlog.contextvars import bound_contextvars
from uuid_utils.compat import uuid7

from rest.middleware import AroundMiddleware

HEADER = "X-Request-ID"
_VALID = re.compile(r"[A-Za-z0-9._-]{1,128}")


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


class RequestIdMiddleware(AroundMiddleware):
    """Give the request its id."""

    def around(self, request: HttpRequest) -> AbstractContextManager[None]:
        """Choose the id, and let what is written meanwhile name it."""
        chosen = choose(request.headers.get(HEADER))
        request.request_id = chosen  # type: ignore[attr-defined]
        return answering(chosen)

    def answered(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        """Tell the caller which id it was."""
        response[HEADER] = request_id_of(request)
        return response
