"""Transactions that lost a tie are repeated three times; then the client hears 503."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction

from rest.ties import again_on_ties
from tasks.models import Task
from tests.live.scene import publish_type
from tests.tenants.callers import World

Loser = Callable[[int], None]

# A sequence counts through rollbacks, so the trigger knows how often it has refused.
REFUSE = """
CREATE SEQUENCE chaos_ties;
CREATE FUNCTION chaos_lose() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF nextval('chaos_ties') <= {times} THEN
    RAISE EXCEPTION 'could not serialize access' USING ERRCODE = '40001';
  END IF;
  RETURN new;
END $$;
CREATE TRIGGER chaos_lose BEFORE INSERT ON task FOR EACH ROW EXECUTE FUNCTION chaos_lose();
"""
FORGET = "DROP FUNCTION IF EXISTS chaos_lose CASCADE; DROP SEQUENCE IF EXISTS chaos_ties;"


@pytest.fixture
def loser(lasting_world: World) -> Iterator[Loser]:
    """Have the next N inserts of a task fail as PostgreSQL's serialization failures do."""

    def lose(times: int) -> None:
        with connection.cursor() as cursor:
            cursor.execute(REFUSE.format(times=times))

    yield lose
    with connection.cursor() as cursor:
        cursor.execute(FORGET)


def submit(world: World) -> Any:
    publish_type()
    body = {"type": "live.test", "params": {}}
    return world.token().post("/api/v1/tenants/acme/tasks", body, Idempotency_Key="once")


def test_a_submission_that_loses_three_times_is_accepted(lasting_world: World, loser: Loser) -> None:
    loser(3)
    assert submit(lasting_world).status_code == 201
    assert Task.objects.count() == 1


def test_one_that_goes_on_losing_is_503_and_nothing_is_kept(lasting_world: World, loser: Loser) -> None:
    loser(4)
    answer = submit(lasting_world)
    assert (answer.status_code, answer.json()["code"]) == (503, "database_busy")
    assert int(answer["Retry-After"]) >= 1
    assert Task.objects.count() == 0
    assert submit(lasting_world).status_code == 201


def test_two_that_wait_for_each_other_both_succeed(lasting_world: World) -> None:
    tenants = [lasting_world.acme.pk, lasting_world.other.pk]
    meet = threading.Barrier(2)
    met: set[int] = set()
    problems: list[Exception] = []

    @again_on_ties
    def lock_both(first: int, second: int) -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM tenants_tenant WHERE id = %s FOR UPDATE", [first])
            if first not in met:
                met.add(first)
                meet.wait(10)
            cursor.execute("SELECT 1 FROM tenants_tenant WHERE id = %s FOR UPDATE", [second])

    def run(first: int, second: int) -> None:
        try:
            lock_both(first, second)
        except Exception as error:
            problems.append(error)
        finally:
            connection.close()

    threads = [
        threading.Thread(target=run, args=pair) for pair in (tuple(tenants), tuple(tenants[::-1]))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert problems == []


def test_inside_another_transaction_the_owner_decides(lasting_world: World, loser: Loser) -> None:
    calls = []

    @again_on_ties
    def lose() -> None:
        calls.append(1)
        with connection.cursor() as cursor:
            cursor.execute("DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '40P01'; END $$")

    with pytest.raises(OperationalError), transaction.atomic():
        lose()
    assert len(calls) == 1
