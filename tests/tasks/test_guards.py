"""What PostgreSQL refuses by itself, whoever asks."""

from __future__ import annotations

import importlib
import itertools
import uuid
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction

from tasks.models import Event, LogChunk, Run, Task
from tasks.services.append import Lines, append
from tasks.states import INITIAL, TRANSITIONS, Status
from tenants.models import Tenant
from tests.tasks.api.work import ended, failed, lines, running, submitted

guards = importlib.import_module("tasks.migrations.0007_versions_maintenance_results")


def write(task: Task, **columns: Any) -> None:
    with transaction.atomic():
        Task.objects.filter(pk=task.pk).update(**columns)


def test_the_trigger_knows_the_same_transitions_as_the_code() -> None:
    frozen = {Status(before): {Status(s) for s in after} for before, after in guards.TRANSITIONS.items()}
    assert frozen == {before: set(after) for before, after in TRANSITIONS.items() if after}


def test_a_status_that_does_not_follow_is_refused(tenant: Tenant) -> None:
    task = submitted(tenant)
    for wrong in ("completed", "failed", "retry_wait", "blocked", "scheduled", "allocated"):
        with pytest.raises(IntegrityError):
            write(task, status=wrong, last_seq=task.last_seq + 1)
    task.refresh_from_db()
    assert task.status == "queued"


def test_a_change_of_status_without_its_event_number_is_refused(tenant: Tenant) -> None:
    task = submitted(tenant)
    with pytest.raises(IntegrityError, match="needs its event"):
        write(task, status="running")


@pytest.mark.parametrize("column", ["last_seq", "attempt", "epoch", "life"])
def test_counters_never_fall(tenant: Tenant, column: str) -> None:
    task = submitted(tenant)
    running(task)
    with pytest.raises(IntegrityError, match="never fall"):
        write(task, **{column: getattr(task, column) - 1})


def test_an_end_is_written_once_in_a_life(tenant: Tenant) -> None:
    task = submitted(tenant)
    ended(task)
    for status in Status:
        if status != "completed":
            with pytest.raises(IntegrityError):
                write(task, status=status, last_seq=task.last_seq + 1, finished_at=None)


def test_an_end_is_left_only_for_a_new_life(tenant: Tenant) -> None:
    task = failed(submitted(tenant))
    with pytest.raises(IntegrityError, match="once per life"):
        write(task, status="queued", last_seq=task.last_seq + 1, finished_at=None)


def test_terminal_means_finished_and_finished_means_terminal(tenant: Tenant) -> None:
    task = submitted(tenant)
    ended(task)
    with pytest.raises(IntegrityError):
        write(task, finished_at=None)
    other = submitted(tenant)
    with pytest.raises(IntegrityError):
        write(other, finished_at="2026-01-01T00:00:00Z")


def test_the_time_of_submission_never_changes(tenant: Tenant) -> None:
    with pytest.raises(IntegrityError, match="never change"):
        write(submitted(tenant), created_at="2020-01-01T00:00:00Z")


def test_a_task_cannot_begin_anywhere_but_at_the_beginning(tenant: Tenant) -> None:
    for status in set(Status) - INITIAL:
        with pytest.raises(IntegrityError), transaction.atomic():
            Task.objects.create(
                tenant=tenant, type="x", queue="normal", status=status, last_seq=1, submitter="system"
            )


def test_at_most_one_run_of_a_task_is_live(tenant: Tenant) -> None:
    task = submitted(tenant)
    running(task)
    with pytest.raises(IntegrityError), transaction.atomic():
        Run.objects.create(task=task, attempt=2, epoch=2, status="running")


def test_an_event_number_is_given_once_over_all_partitions(tenant: Tenant) -> None:
    task = submitted(tenant)
    with pytest.raises(IntegrityError), transaction.atomic():
        Event.objects.create(task_id=task.pk, seq=1, tenant_id=tenant.pk, kind="state")


def test_history_lies_in_the_partition_of_the_tasks_month(tenant: Tenant) -> None:
    task = submitted(tenant)
    claimed = running(task)
    append(task.pk, claimed.epoch, [lines(claimed.started_at, "one")])
    with connection.cursor() as cursor:
        for table in ("event", "log_chunk"):
            cursor.execute(f"SELECT DISTINCT tableoid::regclass::text FROM {table}")
            assert [row[0] for row in cursor.fetchall()] == [
                f"{table}_{task.created_at.strftime('%Y_%m')}"
            ]


def test_a_row_of_another_age_is_kept_in_the_default_partition(db: None) -> None:
    old = uuid.UUID("00000000-0001-7000-8000-000000000000")
    Event.objects.create(task_id=old, seq=1, tenant_id=1, kind="note")
    with connection.cursor() as cursor:
        cursor.execute("SELECT tableoid::regclass::text FROM event WHERE task_id = %s", [old])
        assert cursor.fetchone() == ("event_default",)


def test_partitions_are_made_ahead_and_only_once(db: None) -> None:
    from tasks.partitions import ensure_history_partitions

    assert ensure_history_partitions(5) == 4  # two tables, months 4 and 5
    assert ensure_history_partitions(5) == 0


def test_text_that_postgresql_cannot_store_is_stored_readably(tenant: Tenant) -> None:
    task = submitted(tenant)
    claimed = running(task)
    strange = Lines(claimed.started_at, "stdout", 1, ("a\x00b", "c\udc80d"), (0, 0))
    append(task.pk, claimed.epoch, [strange])
    assert LogChunk.objects.get(task_id=task.pk).lines == ["a�b", "c?d"]


def test_every_pair_of_statuses_is_decided(db: None) -> None:
    pairs = set(itertools.product(Status, Status))
    allowed = {(before, after) for before, afters in TRANSITIONS.items() for after in afters}
    assert allowed < pairs
    assert all(before not in afters for before, afters in TRANSITIONS.items())
