"""Operators' short lists take pages like the long ones: the rules, the pauses, queues and pools."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.models import Pause, Route
from tests.tasks.api.work import serve
from tests.tenants.callers import Caller, World

OPERATOR = "/api/v1/operator"


@pytest.fixture
def operator(acme: World) -> Caller:
    """An operator of a platform on which each of these lists has three entries at least."""
    for number, name in enumerate(("d", "a", "z" * 50, "b")):
        Route.objects.create(name=name, position=number // 2, type="*", queue="batch", by="operator")
    for name in ("batch", "critical", "normal"):
        Pause.objects.create(subject="queue", name=name, by="operator")
        serve(name, 0, 2)
    Pause.objects.create(subject="type", name="x" * 100, by="operator")
    return acme.operator()


def names(page: dict[str, Any]) -> list[str]:
    return [row["name"] for row in page["results"]]


def fetched(operator: Caller, link: str) -> dict[str, Any]:
    answer = operator.get(link)
    assert answer.status_code == 200, answer.content
    page: dict[str, Any] = answer.json()
    return page


@pytest.mark.parametrize(
    ("what", "ordered"),
    [
        ("routes", ["a", "d", "b", "z" * 50]),
        ("pauses", ["batch", "critical", "normal", "x" * 100]),
        ("queues", ["critical", "normal", "batch"]),
        ("pools", ["critical", "normal", "batch"]),
    ],
)
def test_a_short_list_has_pages_there_and_back(operator: Caller, what: str, ordered: list[str]) -> None:
    whole = fetched(operator, f"{OPERATOR}/{what}")
    assert (names(whole), whole["next"], whole["previous"]) == (ordered, None, None)
    for limit in (1, 2, 200):
        seen, back = [], []
        page = fetched(operator, f"{OPERATOR}/{what}?limit={limit}")
        assert page["previous"] is None
        while True:
            assert len(page["results"]) <= limit
            seen += names(page)
            if page["next"] is None:
                break
            page = fetched(operator, page["next"])
        assert seen == ordered
        while page["previous"] is not None:
            page = fetched(operator, page["previous"])
            back = names(page) + back
        assert back == ordered[: len(back)]
        assert len(back) == (len(ordered) - 1) // limit * limit


@pytest.mark.parametrize("what", ["routes", "pauses", "queues", "pools"])
def test_a_wrong_limit_or_cursor_is_refused(operator: Caller, what: str) -> None:
    other = "pauses" if what != "pauses" else "routes"
    foreign = fetched(operator, f"{OPERATOR}/{other}?limit=1")["next"].partition("cursor=")[2]
    for query, pointer in (
        ("limit=0", "query:limit"),
        ("limit=201", "query:limit"),
        ("limit=x", "query:limit"),
        ("cursor=made-up", "query:cursor"),
        (f"cursor={foreign}", "query:cursor"),
        ("page=2", "query:page"),
    ):
        answer = operator.get(f"{OPERATOR}/{what}?{query}")
        assert answer.status_code == 400, query
        assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]


def test_what_is_made_or_deleted_meanwhile_shifts_nothing(operator: Caller) -> None:
    first = fetched(operator, f"{OPERATOR}/routes?limit=2")
    assert names(first) == ["a", "d"]
    operator.send("DELETE", f"{OPERATOR}/routes/d")
    body = {"match": {"type": "*"}, "queue": "batch", "position": 0}
    assert operator.send("PUT", f"{OPERATOR}/routes/0", body).status_code == 201
    assert names(fetched(operator, first["next"])) == ["b", "z" * 50]
