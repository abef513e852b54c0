"""Who asks, and over which scheme: told by the proxies that we have been told of, by nobody else."""

from __future__ import annotations

from collections.abc import Iterable
from io import BytesIO
from typing import Any

import pytest
from allauth.account.adapter import get_adapter
from django.core.handlers.asgi import ASGIRequest

from config.proxies import behind_proxies
from live.handshake import Opening

PROXY = "10.0.0.2"


async def seen(
    count: int, headers: Iterable[tuple[str, str]], *, kind: str = "http", client: Any = (PROXY, 4711)
) -> dict[str, Any]:
    """Return the scope that the application behind ``count`` proxies gets."""
    got: list[dict[str, Any]] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        got.append(scope)

    scope = {
        "type": kind,
        "scheme": "http" if kind == "http" else "ws",
        "method": "GET",
        "path": "/login",
        "query_string": b"",
        "client": client,
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers],
    }
    await behind_proxies(application, count)(scope, None, None)  # type: ignore[arg-type]
    return got[0]


def told(addresses: str, scheme: str = "https") -> list[tuple[str, str]]:
    return [("x-forwarded-for", addresses), ("x-forwarded-proto", scheme)]


async def test_without_proxies_the_headers_change_nothing() -> None:
    scope = await seen(0, [*told("203.0.113.9"), ("forwarded", "for=203.0.113.9;proto=https")])
    request = ASGIRequest(scope, BytesIO())
    assert request.META["REMOTE_ADDR"] == PROXY
    assert get_adapter().get_client_ip(request) == PROXY
    assert not request.is_secure()
    assert not Opening.of(await seen(0, told("203.0.113.9"), kind="websocket")).secure


async def test_behind_one_proxy_its_word_counts_and_not_the_visitors() -> None:
    scope = await seen(1, told("198.51.100.1, 203.0.113.9"))
    request = ASGIRequest(scope, BytesIO())
    assert request.META["REMOTE_ADDR"] == "203.0.113.9"
    assert get_adapter().get_client_ip(request) == "203.0.113.9"
    assert request.is_secure()
    assert Opening.of(await seen(1, told("203.0.113.9"), kind="websocket")).secure


@pytest.mark.parametrize(
    ("count", "headers", "address"),
    [
        (1, told("203.0.113.9"), "203.0.113.9"),
        (1, told("2001:db8::9"), "2001:db8::9"),
        (2, told("198.51.100.1,203.0.113.9, 10.0.0.1"), "203.0.113.9"),
        (2, [*told("203.0.113.9"), ("x-forwarded-for", "10.0.0.1")], "203.0.113.9"),
        # What fewer proxies than promised have written, or none that we can read, is nobody's word.
        (2, told("203.0.113.9"), PROXY),
        (1, told("unknown"), PROXY),
        (1, told("203.0.113.9, "), PROXY),
        (1, told("203.0.113.9, \xe9"), PROXY),
        (1, [], PROXY),
    ],
)
async def test_the_address_is_counted_from_the_right(
    count: int, headers: list[tuple[str, str]], address: str
) -> None:
    assert (await seen(count, headers))["client"][0] == address


@pytest.mark.parametrize(
    ("kind", "header", "scheme"),
    [
        ("http", "https", "https"),
        ("http", "HTTPS", "https"),
        ("http", "http", "http"),
        ("http", "http, https", "https"),
        ("http", "gopher", "http"),
        ("websocket", "https", "wss"),
        ("websocket", "wss", "wss"),
        ("websocket", "http", "ws"),
    ],
)
async def test_the_scheme_is_what_the_last_proxy_says(kind: str, header: str, scheme: str) -> None:
    assert (await seen(1, told("203.0.113.9", header), kind=kind))["scheme"] == scheme


async def test_a_socket_without_a_peers_address_gets_the_visitors() -> None:
    assert (await seen(1, told("203.0.113.9"), client=None))["client"][0] == "203.0.113.9"
    assert (await seen(1, [], client=None))["client"] is None
