"""Absolute addresses: by the public URL, since the request may have come through a proxy.

Where nobody has set one, it is this machine's for itself (also with ``up --host 0.0.0.0``), and of no
use to who came from elsewhere: their links begin with the address by which they came.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import cast
from urllib.parse import urlsplit

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest
from django.http.request import split_domain_port, validate_host
from django.http.response import HttpResponseBase

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

_came_by: ContextVar[str] = ContextVar("came_by", default="")


def site() -> str:
    """Return the public address of the platform, without a slash at its end."""
    public = str(settings.SWITCHYARD.public_url).rstrip("/")
    return (_came_by.get() or public) if _is_loopback(public) else public


@contextmanager
def came_by(host: str, *, secure: bool) -> Iterator[None]:
    """Answer a caller meanwhile who has named this ``Host``; one that is not ours counts for nothing."""
    domain, _port = split_domain_port(host)
    ours = bool(domain) and validate_host(domain, settings.ALLOWED_HOSTS)
    token = _came_by.set(f"{'https' if secure else 'http'}://{host}" if ours else "")
    try:
        yield
    finally:
        _came_by.reset(token)


class LinksMiddleware:
    """Have links lead to where the request came to, as far as :func:`site` allows it."""

    sync_capable = True
    async_capable = True

    def __init__(
        self, get_response: Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]
    ) -> None:
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if self.is_async:
            return self._later(request)
        with came_by(_host(request), secure=request.is_secure()):
            return self.get_response(request)

    async def _later(self, request: HttpRequest) -> HttpResponseBase:
        with came_by(_host(request), secure=request.is_secure()):
            return await cast(Awaitable[HttpResponseBase], self.get_response(request))


def _host(request: HttpRequest) -> str:
    try:
        return request.get_host()
    except DisallowedHost:  # whoever is to answer says so
        return ""


@cache
def _is_loopback(address: str) -> bool:
    return urlsplit(address).hostname in LOOPBACK
