"""``/operator/pools``: the pools, and scaling them."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

from audit.models import AuditEntry
from tasks.models import Lane, Pause, PoolBounds, PoolMachine, Task, Worker
from tasks.selectors.ability import capacities
from tasks.selectors.pools import Demand, demands, scaled_bounds
from tests.e2e.platforms import ROOT
from tests.tasks.api.work import dispatched, running, serve, submitted
from tests.tenants.callers import World

POOLS = "/api/v1/operator/pools"


def shown(world: World, name: str) -> dict[str, Any]:
    rows = {row["name"]: row for row in world.operator().get(POOLS).json()["results"]}
    assert list(rows) == ["critical", "normal", "batch"]
    found: dict[str, Any] = rows[name]
    return found


def scale(world: World, body: Any, **headers: str) -> Any:
    return world.operator().send("PATCH", POOLS, body, **headers)


def test_a_pool_shows_its_bounds_size_and_why(acme: World) -> None:
    serve("normal", 1, 4, target=3, why="2 tasks wait")
    for _ in range(2):
        waiting = submitted(acme.acme)
        Task.objects.filter(pk=waiting.pk).update(queued_at=Now() - timedelta(seconds=30))
    running(submitted(acme.other))
    Worker.objects.filter(queue="normal").update(busy=1)
    row = shown(acme, "normal")
    assert 29 < row.pop("oldest_wait") < 60
    assert row == {
        "name": "normal",
        "min": 1,
        "max": 4,
        "target": 3,
        "slots": 2,
        "busy": 1,
        "waiting": 2,
        "why": "2 tasks wait",
        "workers": {"alive": 1, "draining": 0},
        "hosts": ["h1"],
        "machines": [
            {"machine": "m1", "min": 1, "max": 4, "target": 3, "capacity": 8, "why": "2 tasks wait"}
        ],
    }


def test_the_slots_of_workers_that_drain_do_not_count(acme: World) -> None:
    Worker.objects.filter(queue="batch").update(status="draining", busy=1)
    row = shown(acme, "batch")
    assert (row["slots"], row["busy"], row["workers"]) == (0, 1, {"alive": 0, "draining": 1})
    assert (row["min"], row["max"], row["why"]) == (None, None, "no machine serves it")


def test_machines_add_up_and_those_that_fell_silent_are_left_out(acme: World) -> None:
    serve("batch", 0, 4, target=1, machine="m1", why="1 task waits")
    serve("batch", 0, 4, target=2, machine="m2", why="2 busy")
    serve("batch", 0, 4, target=4, machine="m3")
    PoolMachine.objects.filter(machine="m3").update(seen_at=Now() - timedelta(seconds=11))
    row = shown(acme, "batch")
    assert (row["target"], row["why"]) == (3, "m1: 1 task waits; m2: 2 busy")
    assert demands()["batch"].machines == 2


def test_scaling_sets_what_is_named_and_is_audited(acme: World) -> None:
    serve("batch", 2, 2)
    answer = scale(acme, {"critical": {"min": 2, "max": 8}, "batch": {"min": 0, "max": 4}})
    assert answer.status_code == 200, answer.content
    assert scaled_bounds().keys() == {"critical", "batch"}
    assert (shown(acme, "batch")["min"], shown(acme, "batch")["max"]) == (0, 4)
    entry = AuditEntry.objects.get(action="pools.scale")
    assert (entry.actor, entry.data) == ("operator:root", {"critical": "2..8", "batch": "0..4"})
    again = scale(acme, {"batch": {"min": 0, "max": 4}})
    assert again.headers["ETag"] == answer.headers["ETag"]
    assert AuditEntry.objects.filter(action="pools.scale").count() == 1


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, ""),
        ({"batch": {"min": 4, "max": 2}}, "/batch/min"),
        ({"batch": {"min": 0}}, "/batch/max"),
        ({"batch": {"min": -1, "max": 2}}, "/batch/min"),
        ({"batch": {"min": 0, "max": 257}}, "/batch/max"),
        ({"batch": {"min": "0", "max": 2}}, "/batch/min"),
        ({"batch": 4}, "/batch"),
        ({"system": {"min": 0, "max": 2}}, "/system"),
        ({"normal": {"min": 1, "max": 2}, "batch": {"min": 4, "max": 2}}, "/batch/min"),
    ],
)
def test_wrong_bounds_are_refused_and_nothing_changes(acme: World, body: Any, pointer: str) -> None:
    answer = scale(acme, body)
    assert answer.status_code == 400, answer.content
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
    assert not PoolBounds.objects.exists()


def test_a_pool_with_a_minimum_is_not_switched_off_by_mistake(acme: World) -> None:
    serve("critical", 2, 8)
    refused = scale(acme, {"critical": {"min": 0, "max": 0}, "batch": {"min": 0, "max": 1}})
    assert (refused.status_code, refused.json()["code"]) == (409, "pool_minimum")
    assert "critical=0..8" in refused.json()["detail"]
    assert not PoolBounds.objects.exists()
    assert scale(acme, {"critical": {"min": 0, "max": 8}}).status_code == 200
    assert scale(acme, {"critical": {"min": 0, "max": 0}}).status_code == 200


def test_minima_beyond_a_set_capacity_are_refused(acme: World) -> None:
    serve("critical", 2, 4, capacity=6, capacity_set=True)
    serve("normal", 2, 4, capacity=6, capacity_set=True)
    refused = scale(acme, {"critical": {"min": 5, "max": 5}})
    assert (refused.status_code, refused.json()["code"]) == (409, "capacity_exceeded")
    assert "m1 bears 6 slots" in refused.json()["detail"]
    assert scale(acme, {"critical": {"min": 4, "max": 5}}).status_code == 200
    PoolMachine.objects.update(capacity_set=False)
    assert scale(acme, {"critical": {"min": 5, "max": 5}}).status_code == 200


def test_who_has_not_seen_the_last_change_may_say_so(acme: World) -> None:
    tag = acme.operator().get(POOLS).headers["ETag"]
    assert scale(acme, {"batch": {"min": 0, "max": 4}}, If_Match=tag).status_code == 200
    stale = scale(acme, {"batch": {"min": 0, "max": 5}}, If_Match=tag)
    assert (stale.status_code, stale.json()["code"]) == (412, "precondition_failed")


def test_only_operators_see_and_scale_pools(acme: World) -> None:
    for caller in (acme.token(), acme.user("alice")):
        assert caller.get(POOLS).status_code == 403
        assert caller.send("PATCH", POOLS, {"batch": {"min": 0, "max": 4}}).status_code == 403
    assert not PoolBounds.objects.exists()


def test_the_pools_cost_the_same_however_much_waits(acme: World) -> None:
    caller = acme.operator()
    caller.get(POOLS)
    for _ in range(20):
        submitted(acme.acme)
    with CaptureQueriesContext(connection) as queries:
        caller.get(POOLS)
    assert len(queries) <= 6


# -- the demand, also for outside autoscalers --------------------------------------------------------


def demand(queue: str = "normal") -> Demand:
    return demands()[queue]


def test_demand_counts_what_waits_for_a_slot_and_what_has_one(acme: World) -> None:
    for _ in range(3):
        submitted(acme.acme)
    dispatched(submitted(acme.other))
    running(submitted(acme.other))
    submitted(acme.acme, queue="batch")
    found = demand()
    assert (found.waiting, found.dispatched, found.running, found.slots) == (3, 1, 1, 2)
    assert demand("batch").waiting == 1
    assert demand("critical")[1:] == (0, 0.0, 0, 0, 2, 0)


def test_what_a_limit_or_a_pause_holds_is_no_demand(acme: World) -> None:
    submitted(acme.acme)
    for _ in range(2):
        submitted(acme.other)
    Lane.objects.create(tenant_id=acme.acme.pk, queue="normal", waiting_for="quota")
    Lane.objects.create(tenant_id=acme.other.pk, queue="normal")
    assert demand().waiting == 2
    Pause.objects.create(subject="queue", name="normal", by="test")
    assert (demand().waiting, demand().oldest_wait) == (0, 0.0)


def test_the_demand_of_a_long_backlog_is_read_in_a_bounded_time(acme: World) -> None:
    first = submitted(acme.acme)
    for number, tenant in enumerate((acme.acme, acme.other), start=1):
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO ready (task_id, queue, tenant_id, rank, ordinal, epoch, type_id,"
                " preemptible) SELECT gen_random_uuid(), 'normal', %s, 0, n + %s, 0, 1, false"
                " FROM generate_series(1, 8000) n",
                [tenant.pk, 1_000_000 * number],
            )
    Task.objects.filter(pk=first.pk).update(queued_at=Now() - timedelta(seconds=90))
    found = demand()
    assert found.waiting == 10_000
    assert 89 < found.oldest_wait < 150


def test_the_queries_that_the_documentation_gives_are_right(acme: World) -> None:
    submitted(acme.acme)
    text = (ROOT / "docs" / "scaling.md").read_text()
    queries = re.findall(r"SELECT .* FROM pool_demand[^;\n]*", text)
    assert len(queries) == 2
    with connection.cursor() as cursor:
        for query in queries:
            cursor.execute(query)
            rows = cursor.fetchall()
        assert rows == [(1,)]


# -- a pool at 0 --------------------------------------------------------------------------------------


def test_a_pool_that_can_grow_counts_as_able_and_one_scaled_to_0_does_not(acme: World) -> None:
    task = submitted(acme.acme, queue="batch")
    path = f"/api/v1/tenants/acme/tasks/{task.pk}"
    caller = acme.token()
    Worker.objects.filter(queue="batch").update(status="gone")

    def reason() -> str:
        found: str = caller.get(path).json()["waiting_for"]["reason"]
        return found

    assert reason() == "no_worker"
    row = serve("batch", 0, 4)
    assert reason() == "dispatch"
    assert capacities()["batch"].slots == 0
    assert capacities()["batch"].can_run(next(iter(capacities()["normal"].types)), 1)
    PoolMachine.objects.filter(pk=row.pk).update(most=0)
    assert reason() == "no_worker"
    PoolMachine.objects.filter(pk=row.pk).update(most=4, seen_at=Now() - timedelta(seconds=11))
    assert reason() == "no_worker"
    assert "batch" not in capacities()


# -- metrics --------------------------------------------------------------------------------------------


def test_metrics_tell_of_each_pool_what_the_view_tells(acme: World) -> None:
    serve("normal", 1, 4, target=3)
    for _ in range(2):
        submitted(acme.acme)
    running(submitted(acme.other))
    accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
    answer = acme.operator().get("/metrics", Accept=accept)
    assert (answer.status_code, answer.headers["Content-Type"]) == (
        200,
        "text/plain; version=0.0.4; charset=utf-8",
    )
    lines = answer.content.decode().splitlines()
    for line in (
        "# TYPE switchyard_pool_waiting gauge",
        'switchyard_pool_waiting{pool="normal"} 2.0',
        'switchyard_pool_running{pool="normal"} 1.0',
        'switchyard_pool_slots{pool="normal"} 2.0',
        'switchyard_pool_target_slots{pool="normal"} 3.0',
        'switchyard_pool_workers{pool="batch"} 1.0',
        'switchyard_pool_oldest_wait_seconds{pool="critical"} 0.0',
    ):
        assert line in lines


def test_metrics_are_for_operators(acme: World) -> None:
    assert acme.anonymous().get("/metrics").status_code == 401
    assert acme.token().get("/metrics").status_code == 403
