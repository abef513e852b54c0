"""Every route of the API, found in the URL tree itself, against every kind of caller.

A route that is added without stating its scopes fails here, before anybody can call it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from asgiref.sync import iscoroutinefunction
from django.urls import URLPattern, URLResolver, get_resolver

from tenants.access import ANYBODY, OPERATOR
from tenants.scopes import SCOPES
from tests.tenants.callers import World, make_world

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
SAMPLES = {
    "tenant": "acme",
    "slug": "acme",
    "id": "01a1fc7b-66ee-76c8-aeb8-e6e146e1ee2c",
    "uuid": "01a1fc7b-66ee-76c8-aeb8-e6e146e1ee2c",
    "number": "1",
    "int": "1",
}


@dataclass(frozen=True)
class Route:
    """One address, with the methods it answers and the scope of each."""

    pattern: str
    callback: Any
    is_async: bool

    @property
    def view(self) -> Any:
        return getattr(self.callback, "cls", self.callback)

    @property
    def methods(self) -> set[str]:
        found = {method for method in METHODS if hasattr(self.view, method.lower())}
        return found or set(self.scopes)

    @property
    def scopes(self) -> dict[str, str]:
        return dict(getattr(self.view, "required_scopes", {}))

    @property
    def path(self) -> str:
        """The address with a sample in each place; the things named there do not exist."""

        def sample(match: re.Match[str]) -> str:
            kind, _, name = match[1].rpartition(":")
            return SAMPLES.get(name) or SAMPLES.get(kind) or "missing"

        return "/" + re.sub(r"<([^>]+)>", sample, self.pattern)


def routes() -> list[Route]:
    """Return every route below ``/api/v1/``.

    Where two views share an address (a stream and a JSON page), the one that states its scopes
    speaks for both; the requests below go to whichever answers first.
    """
    by_pattern: dict[str, Route] = {}
    for route in _walk(get_resolver().url_patterns, ""):
        known = by_pattern.get(route.pattern)
        if known is None or not known.scopes:
            is_async = route.is_async or (known is not None and known.is_async)
            by_pattern[route.pattern] = Route(route.pattern, route.callback, is_async)
    return list(by_pattern.values())


def _walk(patterns: list[Any], prefix: str) -> Iterator[Route]:
    for entry in patterns:
        path = prefix + str(entry.pattern)
        if isinstance(entry, URLResolver):
            yield from _walk(entry.url_patterns, path)
        elif isinstance(entry, URLPattern) and path.startswith("api/v1/"):
            yield Route(path, entry.callback, iscoroutinefunction(entry.callback))


def operations() -> list[Any]:
    """Every method of every route, with the scope it states."""
    return [
        pytest.param(
            route,
            method,
            route.scopes.get(method, ""),
            id=f"{method} {route.pattern}",
            # Async views read through connections of their own, which see only what is committed.
            marks=pytest.mark.django_db(transaction=route.is_async),
        )
        for route in routes()
        for method in sorted(route.methods)
    ]


@pytest.fixture
def world() -> World:
    """The world, in the kind of database that the operation's mark asks for."""
    return make_world()


def test_every_method_of_every_route_states_its_scope() -> None:
    silent = [
        f"{method} {route.pattern}"
        for route in routes()
        for method in (route.methods or {"(none)"})
        if route.scopes.get(method) not in {*SCOPES, ANYBODY, OPERATOR}
    ]
    assert silent == []
    assert len(routes()) > 10


def test_no_route_ends_with_a_slash_but_a_tenants_own() -> None:
    slashes = [route.pattern for route in routes() if route.pattern.endswith("/")]
    assert slashes == ["api/v1/tenants/<name:tenant>/"]


@pytest.mark.parametrize(("route", "method", "scope"), operations())
def test_without_a_credential_nothing_is_answered(
    world: World, route: Route, method: str, scope: str
) -> None:
    answer = world.anonymous().send(method, route.path, {})
    assert (answer.status_code, answer["WWW-Authenticate"]) == (401, "Bearer")


@pytest.mark.parametrize(("route", "method", "scope"), operations())
def test_another_tenants_address_is_an_unknown_one(
    world: World, route: Route, method: str, scope: str
) -> None:
    if "<name:tenant>" not in route.pattern:
        pytest.skip("outside a tenant")
    stranger = world.token(tenant=world.other)
    foreign = stranger.send(method, route.path, {})
    unknown = stranger.send(method, route.path.replace("acme", "nobody"), {})
    bodies = [foreign.json(), unknown.json()]
    for body in bodies:
        body.pop("instance")
    assert (foreign.status_code, unknown.status_code) == (404, 404)
    assert bodies[0] == bodies[1]


@pytest.mark.parametrize(("route", "method", "scope"), operations())
def test_every_scope_but_the_right_one_is_403_and_names_it(
    world: World, route: Route, method: str, scope: str
) -> None:
    if scope == ANYBODY:
        pytest.skip("open to whoever may see it")
    others = SCOPES - {scope} if scope in SCOPES else {"*"}
    answer = world.token(*others).send(method, route.path, {})
    assert (answer.status_code, answer.json()["required"]) == (403, scope)


@pytest.mark.parametrize(("route", "method", "scope"), operations())
def test_the_right_scope_alone_opens_the_door(
    world: World, route: Route, method: str, scope: str
) -> None:
    caller = world.operator() if scope == OPERATOR else world.token(scope if ":" in scope else "*")
    answer = caller.send(method, route.path, {})
    assert answer.status_code not in (401, 403, 405)
    assert answer.status_code < 500, answer.content


@pytest.mark.parametrize(("route", "method", "scope"), operations())
def test_no_route_takes_a_parameter_that_it_does_not_know(
    world: World, route: Route, method: str, scope: str
) -> None:
    caller = world.operator() if scope == OPERATOR else world.token()
    answer = caller.send(method, f"{route.path}?no_such_parameter=1", {})
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["pointer"] == "query:no_such_parameter"
