"""Every address of tasks, as the URL conf has it, against a task that belongs to somebody else.

``tests/api/test_routes.py`` tries all routes with ids that do not exist; here the thing is there.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import iscoroutinefunction
from django.urls import URLPattern, URLResolver, get_resolver

from tests.tasks.api.work import publish_types, submitted
from tests.tenants.callers import World, make_world

METHODS = ("get", "post", "put", "patch", "delete")
BELOW = "api/v1/tenants/<name:tenant>/"
VALUES = {"tenant": "acme", "attempt": "1", "type_name": "test.dummy"}


def walk(resolver: URLResolver, above: str = "") -> Iterator[tuple[str, Any]]:
    for pattern in resolver.url_patterns:
        route = above + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from walk(pattern, route)
        elif isinstance(pattern, URLPattern):
            yield route, pattern.callback


def doors() -> list[Any]:
    """Return (route, method) of every address below ``/tasks``, ``/task-types``, ``/usage``.

    Views that read through connections of their own see only what is committed, hence the mark.
    """
    found = {}
    for route, callback in walk(get_resolver()):
        if re.match(re.escape(BELOW) + r"(tasks|task-types|usage)", route):
            view = getattr(callback, "cls", callback)
            for method in METHODS:
                if hasattr(view, method):
                    found[route, method.upper()] = iscoroutinefunction(callback)
    return [
        pytest.param(
            route,
            method,
            id=f"{method} {route.removeprefix(BELOW)}",
            marks=pytest.mark.django_db(transaction=is_async),
        )
        for (route, method), is_async in sorted(found.items())
    ]


def address(route: str, task: uuid.UUID) -> str:
    """Fill a route in; every id is that of ``task``."""
    return "/" + re.sub(r"<(?:\w+:)?(\w+)>", lambda match: VALUES.get(match[1], str(task)), route)


@pytest.fixture
def world() -> World:
    """The world, in the kind of database that the door's mark asks for."""
    made = make_world()
    publish_types()
    return made


def test_the_walk_finds_the_addresses_of_tasks() -> None:
    found = {door.id for door in doors()}
    assert {"POST tasks", "GET tasks/<id:task_id>/log", "GET usage"} <= found
    assert len(found) >= 14


@pytest.mark.parametrize(("route", "method"), doors())
def test_from_another_tenant_a_task_looks_like_none(world: World, route: str, method: str) -> None:
    task = submitted(world.acme)
    path = address(route, task.pk)
    body = None if method == "GET" else {}
    for caller in (world.token("*", tenant=world.other), world.user("carol")):
        foreign = caller.send(method, path, body, X_Request_ID="r")
        nowhere = caller.send(method, path.replace("/acme", "/nowhere", 1), body, X_Request_ID="r")
        assert foreign.status_code == 404, foreign.content
        assert foreign.json() == nowhere.json()
    task.refresh_from_db()
    assert (task.status, task.last_seq) == ("queued", 1)


@pytest.mark.parametrize(("route", "method"), [door for door in doors() if "task_id" in door.values[0]])
def test_anothers_task_under_the_own_tenant_looks_like_none(
    world: World, route: str, method: str
) -> None:
    foreign = submitted(world.other)
    caller = world.token()
    body = None if method == "GET" else {}
    there = caller.send(method, address(route, foreign.pk), body, X_Request_ID="r")
    nowhere = caller.send(method, address(route, uuid.uuid4()), body, X_Request_ID="r")
    assert there.status_code == 404, there.content
    assert there.json() == nowhere.json()
    foreign.refresh_from_db()
    assert (foreign.status, foreign.last_seq, foreign.consumed_at) == ("queued", 1, None)


@pytest.mark.parametrize(("route", "method"), doors())
def test_without_a_scope_of_tasks_the_answer_names_one(world: World, route: str, method: str) -> None:
    task = submitted(world.acme)
    body = None if method == "GET" else {}
    answer = world.token("audit:read").send(method, address(route, task.pk), body)
    assert answer.status_code == 403, answer.content
    assert re.fullmatch(r"(tasks|limits):\w+", answer.json()["required"])
