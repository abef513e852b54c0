"""Who asks, and over which scheme, when reverse proxies stand in front of the web process."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Application = Callable[[Scope, Any, Any], Awaitable[Any]]

_SECURE = {"http": "https", "websocket": "wss"}
_PLAIN = {"http": "http", "websocket": "ws"}


def behind_proxies(application: Application, count: int) -> Application:
    """Let an ASGI application see the visitor as ``count`` proxies in front of it do.

    Each of them has appended the address that it was asked from to ``X-Forwarded-For``; what stands
    farther left, the visitor may have written. All that looks at the connection's address or scheme
    (Django, allauth's limits, our sockets) then sees the visitor's, so nothing else reads these
    headers. With no proxy they are anybody's word and change nothing.
    """
    if count == 0:
        return application

    async def told(scope: Scope, receive: Any, send: Any) -> Any:
        kind = scope["type"]
        if kind in _SECURE:
            address = _address(_values(scope, b"x-forwarded-for"), count)
            if address is not None:
                scope = {**scope, "client": (address, 0)}
            scheme = (_values(scope, b"x-forwarded-proto") or [""])[-1].lower()
            if scheme in ("https", "wss"):
                scope = {**scope, "scheme": _SECURE[kind]}
            elif scheme in ("http", "ws"):
                scope = {**scope, "scheme": _PLAIN[kind]}
        return await application(scope, receive, send)

    return told


def _address(addresses: list[str], count: int) -> str | None:
    """Return what the first of our proxies has written; ``None`` when it is no address."""
    if len(addresses) < count:
        return None
    try:
        return str(ipaddress.ip_address(addresses[-count]))
    except ValueError:
        return None


def _values(scope: Scope, wanted: bytes) -> list[str]:
    """Return the parts of a header that is a list, also when it was sent more than once."""
    lines = [value.decode("latin-1") for name, value in scope["headers"] if name.lower() == wanted]
    return [part.strip() for line in lines for part in line.split(",")]
