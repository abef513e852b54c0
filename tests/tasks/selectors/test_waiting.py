"""Why a task waits, and its position: from the rows that decide it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.db.models.functions import Now

from tasks.models import Lane, Leader, Parked, Ready, Task, Worker
from tasks.selectors.waiting import MAX_POSITION, PLACES, places_of, waiting_for, waiting_for_many
from tasks.states import RunStatus
from tests.questions import rows_read
from tests.tasks.api.work import dispatched, ended, running, submitted
from tests.tenants.callers import World


def reason(task: Task) -> str | None:
    task.refresh_from_db()
    found = waiting_for(task)
    return found and found["reason"]


def park(task: Task, why: str) -> None:
    row = Ready.objects.get(pk=task.pk)
    row.delete()
    Parked.objects.create(
        task_id=task.pk,
        queue=row.queue,
        tenant_id=row.tenant_id,
        rank=row.rank,
        ordinal=row.ordinal,
        epoch=row.epoch,
        type_id=row.type_id,
        reason=why,
    )


def test_each_waiting_status_says_its_own_reason(acme: World) -> None:
    soon = datetime.now(UTC) + timedelta(hours=1)
    parent = submitted(acme.acme)
    assert reason(submitted(acme.acme, inputs=("data.csv",))) == "inputs"
    assert reason(submitted(acme.acme, scheduled_for=soon)) == "schedule"
    assert reason(submitted(acme.acme, depends_on=(parent.pk,))) == "parents"
    again = ended(submitted(acme.acme), RunStatus.FAILED)
    assert again.status == "retry_wait"
    assert reason(again) == "retry"
    assert reason(parent) == "dispatch"


def test_a_dispatched_task_waits_for_its_claim_and_a_running_one_for_nothing(
    acme: World,
) -> None:
    published = submitted(acme.acme)
    dispatched(published)
    assert waiting_for(published) == {
        "reason": "dispatch",
        "detail": "It was handed to the normal pool.",
        "position": None,
    }
    busy = submitted(acme.acme)
    running(busy)
    assert reason(busy) is None
    assert reason(ended(submitted(acme.acme))) is None


@pytest.mark.parametrize("why", ["no_worker", "key", "rate", "quota"])
def test_a_parked_task_says_why(acme: World, why: str) -> None:
    task = submitted(acme.acme, key="deploy")
    park(task, why)
    found = waiting_for(task)
    assert found is not None
    assert found["reason"] == why
    assert found["position"] is None
    assert found["detail"].endswith(".")
    assert "{" not in found["detail"]


def test_the_lanes_snapshot_speaks_for_its_tasks(acme: World) -> None:
    first, second = submitted(acme.acme), submitted(acme.acme)
    Lane.objects.create(
        tenant_id=acme.acme.pk,
        queue="normal",
        running=4,
        waiting_for="quota",
        detail="acme runs 4 of 4 normal tasks",
    )
    assert waiting_for(first) == {
        "reason": "quota",
        "detail": "acme runs 4 of 4 normal tasks",
        "position": 0,
    }
    assert waiting_for(second) == {**(waiting_for(first) or {}), "position": 1}
    assert reason(submitted(acme.acme, queue="batch")) == "dispatch"
    assert reason(submitted(acme.other)) == "dispatch"


@pytest.mark.parametrize(
    "change",
    [
        {"status": "lost"},
        {"status": "gone"},
        {"types": ["lint.ruff"]},
        {"queue": "batch"},
    ],
)
def test_without_a_living_worker_of_its_queue_and_type_a_task_says_so(
    acme: World, change: dict[str, object]
) -> None:
    task = submitted(acme.acme)
    assert reason(task) == "dispatch"
    Worker.objects.filter(queue="normal").update(**change)
    assert waiting_for(task) == {
        "reason": "no_worker",
        "detail": "No worker of the normal pool can run test.dummy.",
        "position": 0,
    }


def test_a_draining_worker_gives_nobody_hope(acme: World) -> None:
    Worker.objects.update(status="draining")
    assert reason(submitted(acme.acme)) == "no_worker"


def test_without_a_dispatcher_the_detail_says_so(acme: World) -> None:
    task = submitted(acme.acme)
    Leader.objects.update(renewed_at=Now() - timedelta(minutes=1))
    assert (waiting_for(task) or {})["detail"] == "No dispatcher is running at the moment."


def test_the_position_follows_priority_then_order_and_only_the_own_lane(acme: World) -> None:
    tasks = [submitted(acme.acme, priority=priority) for priority in (0, 1, 1, 0)]
    submitted(acme.other, priority=100)
    submitted(acme.acme, queue="batch", priority=100)
    found = waiting_for_many(tasks)
    positions = [(found[task.pk] or {})["position"] for task in tasks]
    assert positions == [2, 0, 1, 3]
    assert (found[tasks[0].pk] or {})["detail"] == "2 normal tasks are before it in the line of acme."


def line_up(acme: World, count: int) -> None:
    """Put so many tasks before all others of a line."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO ready (task_id, queue, tenant_id, rank, ordinal, epoch, type_id,"
            " preemptible) SELECT gen_random_uuid(), 'normal', %s, 0, -n, 1, 1, false"
            " FROM generate_series(1, %s) n",
            [acme.acme.pk, count],
        )


@pytest.mark.parametrize("waited", [0, 5])
def test_a_question_that_was_planned_while_few_waited_reads_no_more_of_a_line(
    acme: World, waited: int
) -> None:
    """As the sessions of a web process have it, which are older than what was submitted since."""
    with connection.cursor() as cursor:
        # Also of what other tests have left: a plan is made for as many pages as there are.
        cursor.execute("TRUNCATE ready")
    line_up(acme, waited)
    task = submitted(acme.acme)
    asked = places_of([task]).decode().partition("json_to_recordset(")[2].partition("::json)")[0]
    row = Ready.objects.get(pk=task.pk)
    if not waited:
        Ready.objects.all().delete()
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE ready")
        cursor.execute(PLACES.preparation())
        for _ in range(6):  # from the sixth time on, PostgreSQL keeps the plan
            cursor.execute(f"EXECUTE {PLACES.name}({asked})")
        if not waited:
            Ready.objects.bulk_create([row])
        line_up(acme, 3 * MAX_POSITION)
        before = rows_read("ready")
        cursor.execute(f"EXECUTE {PLACES.name}({asked})")
        (((_id, *place),),) = cursor.fetchone()
        cursor.execute(f"DEALLOCATE {PLACES.name}")
    assert place[3] == MAX_POSITION
    assert rows_read("ready") - before <= MAX_POSITION + 1


def test_nobody_counts_beyond_the_cap(acme: World) -> None:
    urgent, last = submitted(acme.acme, priority=1), submitted(acme.acme)
    line_up(acme, MAX_POSITION - 2)
    assert (waiting_for(last) or {})["position"] == MAX_POSITION - 1
    line_up(acme, 7)
    tasks = [urgent, last, submitted(acme.acme)]
    answers = waiting_for_many(tasks)
    assert [(answers[task.pk] or {})["position"] for task in tasks] == [0, MAX_POSITION, MAX_POSITION]
    found = answers[last.pk] or {}
    assert found["detail"] == "10000 or more normal tasks are before it in the line of acme."
