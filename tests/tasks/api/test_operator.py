"""``/operator/{tasks,workers,queues,lanes}``."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

from django.db import connection
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

from audit.models import AuditEntry
from tasks.models import Lane, Task, Worker
from tests.tasks.api.work import failed, running, submitted
from tests.tenants.callers import World

OPERATOR = "/api/v1/operator"


def test_an_operator_sees_the_tasks_of_all_tenants_with_workers_and_processes(
    acme: World,
) -> None:
    mine, theirs = submitted(acme.acme), submitted(acme.other)
    running(mine)
    rows = acme.operator().get(f"{OPERATOR}/tasks").json()["results"]
    assert [row["id"] for row in rows] == [str(theirs.pk), str(mine.pk)]
    assert [row["tenant"] for row in rows] == ["other", "acme"]
    assert rows[1]["runs"][0]["pid"] == 4711
    assert rows[1]["runs"][0]["worker"] == "00000000-0000-0000-0000-000000000007"


def test_operators_filter_by_tenant_and_all_the_rest(acme: World) -> None:
    submitted(acme.acme)
    broken = failed(submitted(acme.other))
    submitted(acme.other)
    caller = acme.operator()

    def found(query: str) -> int:
        return len(caller.get(f"{OPERATOR}/tasks?{query}").json()["results"])

    assert found("tenant=other") == 2
    assert found("tenant=other,acme") == 3
    assert found("tenant=nobody") == 0
    page = caller.get(f"{OPERATOR}/tasks?tenant=other&status=failed").json()
    assert [row["id"] for row in page["results"]] == [str(broken.pk)]


def test_the_operators_list_costs_the_same_whatever_its_length(acme: World) -> None:
    for _ in range(10):
        running(submitted(acme.acme))
        submitted(acme.other)
    caller = acme.operator()
    caller.get(f"{OPERATOR}/tasks")

    def cost(limit: int) -> int:
        with CaptureQueriesContext(connection) as queries:
            answer = caller.get(f"{OPERATOR}/tasks?limit={limit}")
        assert len(answer.json()["results"]) == limit
        return len(queries)

    assert cost(2) == cost(20) <= 6


def test_workers_are_those_that_live_unless_others_are_asked_for(acme: World) -> None:
    Worker.objects.filter(queue="batch").update(status="lost")
    caller = acme.operator()

    def queues(query: str = "") -> set[str]:
        rows = caller.get(f"{OPERATOR}/workers?{query}").json()["results"]
        return {row["queue"] for row in rows}

    assert queues() == {"critical", "normal"}
    assert queues("status=lost") == {"batch"}
    assert queues("status=alive,lost&queue=normal,batch") == {"normal", "batch"}
    worker = caller.get(f"{OPERATOR}/workers?queue=normal").json()["results"][0]
    assert (worker["pid"], worker["slots"], worker["isolation"]) == (108, 2, "process")
    assert "test.dummy" in worker["types"]
    assert caller.get(f"{OPERATOR}/workers?status=dead").status_code == 400


def test_queues_count_what_there_is(acme: World) -> None:
    old = submitted(acme.acme)
    Task.objects.filter(pk=old.pk).update(queued_at=Now() - timedelta(minutes=5))
    running(submitted(acme.other))
    caller = acme.operator()
    queues = {row["name"]: row for row in caller.get(f"{OPERATOR}/queues").json()["results"]}
    assert list(queues) == ["critical", "normal", "batch"]
    assert (queues["normal"]["ready"], queues["normal"]["running"]) == (1, 1)
    assert 299 < queues["normal"]["oldest_wait"] < 330
    assert queues["batch"]["oldest_wait"] is None


def test_lanes_show_what_holds_them(acme: World) -> None:
    submitted(acme.acme)
    Lane.objects.create(
        tenant_id=acme.acme.pk, queue="normal", running=1, waiting_for="quota", detail="full"
    )
    Lane.objects.create(tenant_id=acme.other.pk, queue="batch")
    rows: list[Any] = acme.operator().get(f"{OPERATOR}/lanes").json()["results"]
    assert [(row["tenant"], row["queue"]) for row in rows] == [
        ("other", "batch"),
        ("acme", "normal"),
    ]
    assert (rows[1]["ready"], rows[1]["waiting_for"], rows[1]["detail"]) == (1, "quota", "full")
    assert rows[0]["waiting_for"] is None


def test_draining_a_worker_is_asked_once_noted_and_audited(acme: World) -> None:
    worker = Worker.objects.get(queue="batch")
    path = f"{OPERATOR}/workers/{worker.pk}/drain"
    first, again = (acme.operator().post(path, None).json() for _ in range(2))
    assert (first["changed"], again["changed"]) == (True, False)
    assert first["worker"]["drain_requested_at"] is not None
    entry = AuditEntry.objects.get(action="worker.drain")
    assert entry.object == f"worker:{worker.pk}"


def test_a_worker_that_does_not_live_cannot_be_drained(acme: World) -> None:
    worker = Worker.objects.get(queue="batch")
    Worker.objects.filter(pk=worker.pk).update(status="lost")
    answer = acme.operator().post(f"{OPERATOR}/workers/{worker.pk}/drain", None)
    assert (answer.status_code, answer.json()["code"]) == (409, "worker_gone")
    for unknown in (uuid.uuid4(), "nonsense"):
        answer = acme.operator().post(f"{OPERATOR}/workers/{unknown}/drain", None)
        assert answer.status_code == 404


def test_only_operators_drain(acme: World) -> None:
    worker = Worker.objects.get(queue="batch")
    answer = acme.token().post(f"{OPERATOR}/workers/{worker.pk}/drain", None)
    assert answer.status_code in (403, 404)
    assert Worker.objects.get(pk=worker.pk).drain_requested_at is None
