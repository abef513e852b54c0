"""A database that is away is a 503 wherever one runs into it, and a bug shows nothing."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from django.contrib.sessions.backends.db import SessionStore
from django.db import utils
from django.test import RequestFactory

from rest.database_errors import is_outage, outage_problem
from rest.outages import OutageMiddleware
from tests.tenants.callers import World


def away(*args: Any, **kwargs: Any) -> Any:
    raise utils.OperationalError("connection refused") from psycopg.OperationalError()


def test_in_a_view_it_is_503_with_retry_after(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    caller = world.token()
    monkeypatch.setattr("tenants.authentication.ApiToken.objects.filter", away)
    answer = caller.get("/api/v1/me")
    assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
    assert int(answer["Retry-After"]) >= 1
    assert "refused" not in answer.content.decode()


def test_in_a_middleware_it_is_503_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    caller = world.user("alice")
    monkeypatch.setattr(SessionStore, "load", away)
    answer = caller.get("/api/v1/me")
    assert (answer.status_code, answer["Content-Type"]) == (503, "application/problem+json")


def test_in_a_page_it_is_a_plain_page() -> None:
    middleware = OutageMiddleware(lambda request: away())
    request = RequestFactory().get("/tasks", headers={"Accept": "text/html"})
    try:
        away()
    except utils.OperationalError as error:
        answer = middleware.process_exception(request, error)
    assert answer is not None
    assert (answer.status_code, answer["Content-Type"]) == (503, "text/html; charset=utf-8")
    assert middleware.process_exception(request, ValueError()) is None


@pytest.mark.parametrize(
    "cause", [psycopg.errors.SerializationFailure(), psycopg.errors.DeadlockDetected()]
)
def test_a_lost_tie_may_be_sent_again(cause: psycopg.Error) -> None:
    assert is_outage(cause)
    assert outage_problem(cause).code == "database_busy"


def test_a_wrong_query_is_not_an_outage() -> None:
    assert not is_outage(utils.ProgrammingError())
    assert not is_outage(utils.IntegrityError())


def test_a_bug_of_ours_shows_none_of_its_insides(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(*args: Any) -> Any:
        raise RuntimeError("the password is swordfish")

    caller = world.token()
    monkeypatch.setattr("tenants.api.caller.Me.get", bug)
    answer = caller.get("/api/v1/me")
    assert (answer.status_code, answer["Content-Type"]) == (500, "application/problem+json")
    assert "swordfish" not in answer.content.decode()
    assert answer.json()["code"] == "internal_error"
