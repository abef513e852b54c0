"""What is forgotten when: results of ended tasks, months of history."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models import F

from tasks.models import Event, Run, Task
from tasks.partitions import drop_history_partitions
from tasks.services.retention import results_expire
from tenants.models import Tenant
from tests.tasks.api.work import ended, submitted
from tests.tenants.callers import World
from workers.beat_schedule import BEAT_SCHEDULE
from workers.system import retention

DAY = 24 * 3600.0


def age(task: Task, **by: float) -> Task:
    """Let a task have ended longer ago."""
    times = ("started_at", "finished_at")
    Task.objects.filter(pk=task.pk).update(**{name: F(name) - timedelta(**by) for name in times})
    return task


def test_an_expired_result_is_gone_and_says_so_while_the_status_stays(acme: World) -> None:
    old = age(ended(submitted(acme.acme), result={"n": 1}), days=31)
    young = age(ended(submitted(acme.acme), result={"n": 2}), days=29)
    empty = age(ended(submitted(acme.acme)), days=31)
    assert results_expire(30 * DAY) == 1
    assert results_expire(30 * DAY) == 0
    caller = acme.token()
    shown = caller.get(f"/api/v1/tenants/acme/tasks/{old.pk}").json()
    assert (shown["status"], shown["result"], shown["result_expired"]) == ("completed", None, True)
    assert shown["runs"][0]["result"] is None
    assert Run.objects.get(task=young).result == {"n": 2}
    for kept, result in ((young, {"n": 2}), (empty, None)):
        kept.refresh_from_db()
        assert (kept.result, kept.result_expired) == (result, False)
    assert Event.objects.filter(task_id=old.pk).count() == old.last_seq


def test_nobody_is_shown_an_expired_result_whose_row_is_not_emptied_yet(acme: World) -> None:
    old = age(ended(submitted(acme.acme), result={"n": 1}), days=31)
    young = age(ended(submitted(acme.acme), result={"n": 2}), days=29)
    caller = acme.token()
    tasks = "/api/v1/tenants/acme/tasks"
    listed = {row["id"]: row for row in caller.get(tasks).json()["results"]}
    for task, expired in ((old, True), (young, False)):
        path = f"{tasks}/{task.pk}"
        result = None if expired else task.result
        alone = caller.get(path).json()
        for shown in (alone, listed[str(task.pk)]):
            assert (shown["status"], shown["result"]) == ("completed", result)
            assert shown["result_expired"] is expired
        (of_list,) = caller.get(f"{path}/runs").json()["results"]
        for run in (alone["runs"][0], of_list, caller.get(f"{path}/runs/1").json()):
            assert (run["status"], run["result"]) == ("completed", result)
        task.refresh_from_db()
        assert task.result is not None


def test_the_system_worker_looks_after_it(
    tenant: Tenant, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.system.close_old_connections", lambda: None)
    settings.SWITCHYARD = settings.SWITCHYARD.model_copy(update={"result_retention": DAY})
    task = age(ended(submitted(tenant), result={"n": 1}), days=2)
    retention()
    task.refresh_from_db()
    assert (task.result, task.result_expired) == (None, True)
    assert retention.name in {entry["task"] for entry in BEAT_SCHEDULE.values()}


def test_a_month_of_history_is_dropped_unless_a_task_of_it_still_lives(tenant: Tenant) -> None:
    with connection.cursor() as cursor:
        for parent in ("event", "log_chunk"):
            for month, end in (("2020_01", "2020_02"), ("2020_02", "2020_03")):
                cursor.execute(
                    f"CREATE TABLE {parent}_{month} PARTITION OF {parent} FOR VALUES FROM"
                    f" (uuidv7_floor('{month.replace('_', '-')}-01Z'))"
                    f" TO (uuidv7_floor('{end.replace('_', '-')}-01Z'))"
                )
        cursor.execute("SELECT uuidv7_floor('2020-02-10Z')")
        row = cursor.fetchone()
    alive = submitted(tenant)
    columns = {field.attname: getattr(alive, field.attname) for field in Task._meta.concrete_fields}
    Task.objects.bulk_create([Task(**{**columns, "id": row[0], "ordinal": 1_000_000_000})])
    assert drop_history_partitions(DAY) == 2
    assert partitions() == {"event_2020_02", "log_chunk_2020_02"}
    Task.objects.filter(pk=row[0]).delete()
    assert drop_history_partitions(DAY) == 2
    assert partitions() == set()
    assert Event.objects.filter(task_id=alive.pk).exists()


def partitions() -> set[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT relname FROM pg_class WHERE relname ~ '^(event|log_chunk)_2020_[0-9]+$'")
        return {row[0] for row in cursor.fetchall()}
