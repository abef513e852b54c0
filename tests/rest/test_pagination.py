"""Cursors: newest first, nothing twice, nothing left out, whatever is inserted meanwhile."""

from __future__ import annotations

from typing import Any

from tenants.actor import SYSTEM
from tenants.services import token_issue
from tests.questions import questions
from tests.tenants.callers import Caller, World

TOKENS = "/api/v1/tenants/acme/tokens"


def issue(world: World, *names: str) -> None:
    for name in names:
        token_issue(tenant=world.acme, actor=SYSTEM, name=name, scopes=["tasks:read"])


def names(page: dict[str, Any]) -> list[str]:
    return [token["name"] for token in page["results"]]


def page(caller: Caller, url: str) -> dict[str, Any]:
    answer = caller.get(url)
    assert answer.status_code == 200, answer.content
    result: dict[str, Any] = answer.json()
    return result


def test_pages_are_newest_first_and_lead_to_each_other(world: World) -> None:
    caller = world.token(name="0")
    issue(world, "1", "2", "3", "4")
    first = page(caller, f"{TOKENS}?limit=2")
    assert (names(first), first["previous"]) == (["4", "3"], None)
    second = page(caller, first["next"])
    assert names(second) == ["2", "1"]
    third = page(caller, second["next"])
    assert (names(third), third["next"]) == (["0"], None)
    assert names(page(caller, third["previous"])) == ["2", "1"]
    back = page(caller, second["previous"])
    assert (names(back), back["previous"]) == (["4", "3"], None)
    assert "limit=2" in second["next"]


def test_links_have_the_public_address_whatever_the_request_came_by(world: World) -> None:
    caller = world.token(name="0")
    issue(world, "1", "2")
    middle = caller.get(f"{TOKENS}?limit=1").json()["next"]
    # As behind a proxy: the server itself is spoken to under another name, port and scheme.
    path = middle.removeprefix("http://testserver")
    found = caller.get(path, Host="127.0.0.1:8000").json()
    for link in (middle, found["next"], found["previous"]):
        assert link.startswith(f"http://testserver{TOKENS}?limit=1&cursor=")


def test_rows_inserted_meanwhile_shift_nothing(world: World) -> None:
    caller = world.token(name="0")
    issue(world, "1", "2", "3")
    first = page(caller, f"{TOKENS}?limit=2")
    issue(world, "4", "5")
    second = page(caller, first["next"])
    assert names(second) == ["1", "0"]
    newer = page(caller, second["previous"])
    assert names(newer) == ["3", "2"]
    assert names(page(caller, newer["previous"])) == ["5", "4"]


def test_a_page_costs_one_query_however_deep(world: World) -> None:
    caller = world.token(name="0")
    issue(world, "1", "2", "3")
    url = page(caller, f"{TOKENS}?limit=1")["next"]
    with questions() as asked:
        page(caller, url)
    assert len(asked) == 2  # the token with its tenant, the page


def test_a_cursor_of_another_list_or_a_changed_one_is_refused(world: World) -> None:
    caller = world.token(name="0")
    issue(world, "1", "2")
    url = page(caller, f"{TOKENS}?limit=1")["next"]
    cursor = url.partition("cursor=")[2]
    assert caller.get(f"/api/v1/tenants?cursor={cursor}").status_code == 400
    for changed in (cursor[:-1], cursor + "A", cursor + "!", "B" + cursor[1:], cursor[::-1]):
        assert caller.get(f"{TOKENS}?cursor={changed}").status_code == 400, changed
