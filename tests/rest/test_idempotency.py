"""One key, one thing: also when two requests come at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any

import pytest
from django.db import connection, connections
from django.utils import timezone

from rest.idempotency import prune
from rest.models import IdempotencyRecord
from tenants.models import ApiToken
from tests.tenants.callers import World

TOKENS = "/api/v1/tenants/acme/tokens"
BODY = {"name": "once", "scopes": ["tasks:read"]}


def made() -> int:
    return ApiToken.objects.filter(name="once").count()


def test_the_same_request_again_gets_the_first_answer_without_its_secret(world: World) -> None:
    caller = world.token()
    first = caller.post(TOKENS, BODY, Idempotency_Key="k")
    again = caller.post(TOKENS, dict(reversed(BODY.items())), Idempotency_Key="k")
    assert (first.status_code, again.status_code, made()) == (201, 200, 1)
    assert again["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" not in first
    assert again["Location"] == first["Location"]
    assert first.json()["token"].startswith("sy_")
    assert again.json() == {k: v for k, v in first.json().items() if k != "token"}
    assert first.json()["token"] not in IdempotencyRecord.objects.get().body


def test_the_same_key_with_another_body_or_address_is_a_conflict(world: World) -> None:
    caller = world.token()
    caller.post(TOKENS, BODY, Idempotency_Key="k")
    other = caller.post(TOKENS, {**BODY, "expires_in": 5}, Idempotency_Key="k")
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_conflict")
    assert made() == 1


def test_another_tenant_may_use_the_same_key(world: World) -> None:
    world.token().post(TOKENS, BODY, Idempotency_Key="k")
    theirs = world.token(tenant=world.other)
    answer = theirs.post("/api/v1/tenants/other/tokens", BODY, Idempotency_Key="k")
    assert (answer.status_code, made()) == (201, 2)


def test_a_refused_request_leaves_its_key_free(world: World) -> None:
    caller = world.token("tokens:write")
    refused = caller.post(TOKENS, BODY, Idempotency_Key="k")
    assert (refused.status_code, IdempotencyRecord.objects.count()) == (403, 0)
    allowed = caller.post(TOKENS, {**BODY, "scopes": ["tokens:write"]}, Idempotency_Key="k")
    assert allowed.status_code == 201


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb", "schl\u00fcssel"])
def test_a_key_that_is_not_printable_ascii_is_refused(world: World, key: str) -> None:
    answer = world.token().post(TOKENS, BODY, Idempotency_Key=key)
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["pointer"] == "header:Idempotency-Key"


def test_a_key_is_free_again_after_a_day_even_before_it_is_pruned(world: World) -> None:
    caller = world.token()
    caller.post(TOKENS, BODY, Idempotency_Key="k")
    with connection.cursor() as cursor:
        cursor.execute("UPDATE rest_idempotencyrecord SET created_at = created_at - '25 h'::interval")
    again = caller.post(TOKENS, BODY, Idempotency_Key="k")
    assert (again.status_code, made()) == (201, 2)


def test_pruning_removes_what_is_older_than_a_day_and_nothing_else(world: World) -> None:
    world.token().post(TOKENS, BODY, Idempotency_Key="k")
    assert prune(timezone.now() + timedelta(hours=23)) == 0
    assert prune(timezone.now() + timedelta(hours=25)) == 1


def test_of_many_at_once_one_creates_and_the_others_replay(lasting_world: World) -> None:
    caller = lasting_world.token()
    threads = 8
    barrier = Barrier(threads)

    def send() -> Any:
        try:
            barrier.wait()
            return caller.post(TOKENS, BODY, Idempotency_Key="race")
        finally:
            connections.close_all()

    with ThreadPoolExecutor(threads) as pool:
        answers = [future.result() for future in [pool.submit(send) for _ in range(threads)]]
    assert sorted(answer.status_code for answer in answers) == [200] * (threads - 1) + [201]
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert made() == 1
