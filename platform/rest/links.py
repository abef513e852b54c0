"""Absolute addresses: by the public URL, since the request may have come through a proxy.

Where nobody has set one, it is this machine's for itself (also with ``up --host 0.0.0.0``), and of no
use to who came from elsewhere: their links begin with the address by which they came.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from functools import cache
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest
from django.http.request import split_domain_port, validate_host

from rest.middleware import AroundMiddleware

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


class LinksMiddleware(AroundMiddleware):
    """Have links lead to where the request came to, as far as :func:`site` allows it."""

    def around(self, request: HttpRequest) -> AbstractContextManager[None]:
        """Remember the address."""
        return came_by(_host(request), secure=request.is_secure())


def _host(request: HttpRequest) -> str:
    try:
        return request.get_host()
    except DisallowedHost:  # whoever is to answer says so
        return ""


@cache
def _is_loopback(address: str) -> bool:
    return urlsplit(address).hostname in LOOPBACK
