"""Cancel, kill and retry on the task's page leave the same trail as through the API."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from django.contrib.auth.models import User
from django.db import OperationalError
from django.test import Client

from audit.models import AuditEntry
from tasks.services import cancel as cancel_module
from tasks.services import retry as retry_module
from tasks.services.ready import one_change
from tasks.states import RunStatus, Status
from tests.tasks.api.work import ended, failed, publish_types, running, start_platform, submitted
from tests.tenants.callers import (
    World,
    lasting_world,
    the_trail_may_be_emptied_between_tests,
)
from tests.web.conftest import PAGE, Browser

__all__ = ["lasting_world", "the_trail_may_be_emptied_between_tests"]


def trail() -> list[tuple[Any, ...]]:
    entries = AuditEntry.objects.filter(action__startswith="task.").order_by("id")
    return [(e.actor, e.action, e.object, e.tenant_id, e.reason, e.data) for e in entries]


def test_cancel_and_retry_are_written_down(world: World, log_in: Browser) -> None:
    mia = log_in("mia")
    task = submitted(world.acme, by="user:mia")
    mia.post(f"/t/acme/tasks/{task.pk}/cancel", {"reason": "typo"})
    mia.post(f"/t/acme/tasks/{task.pk}/cancel", {"reason": "again"})
    mia.post(f"/t/acme/tasks/{task.pk}/retry")
    about = f"task:{task.pk}"
    assert trail() == [
        ("user:mia", "task.cancel", about, world.acme.pk, "typo", {}),
        ("user:mia", "task.retry", about, world.acme.pk, "", {}),
    ]
    mine = AuditEntry.objects.filter(actor="user:mia")
    assert all(mine.values_list("request_id", flat=True))


def test_every_kill_is_written_down(world: World, log_in: Browser) -> None:
    task = submitted(world.acme, "lint.mypy")
    running(task)
    adam = log_in("adam")
    for _ in range(2):
        adam.post(f"/t/acme/tasks/{task.pk}/cancel", {"force": "1", "reason": "it hangs"})
    entry = ("user:adam", "task.cancel", f"task:{task.pk}", world.acme.pk, "it hangs")
    assert trail() == [(*entry, {"force": True})] * 2


def test_what_is_refused_leaves_no_entry(world: World, log_in: Browser) -> None:
    task = ended(submitted(world.acme), RunStatus.COMPLETED)
    for action in ("cancel", "retry"):
        assert log_in("alice").post(f"/t/acme/tasks/{task.pk}/{action}").status_code == 302
    assert trail() == []


@pytest.mark.parametrize("action", ["cancel", "retry"])
def test_without_its_entry_nothing_is_done(
    world: World, log_in: Browser, action: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, task = log_in("alice"), submitted(world.acme)
    if action == "retry":
        failed(task)
    before = task.status

    def full(**entry: Any) -> None:
        raise RuntimeError("the disk is full")

    alice.raise_request_exception = False
    monkeypatch.setattr("tasks.services.audited.record", full)
    assert alice.post(f"/t/acme/tasks/{task.pk}/{action}").status_code == 500
    task.refresh_from_db()
    assert task.status == before


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("action", ["cancel", "retry"])
def test_a_lost_tie_is_tried_again_with_its_entry(
    lasting_world: World, action: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_types()
    start_platform()
    alice = Client(headers=PAGE)
    alice.force_login(User.objects.get(username="alice"))
    task = submitted(lasting_world.acme)
    if action == "retry":
        failed(task)
    attempts = []

    def tied() -> Any:
        attempts.append(1)
        if len(attempts) < 3:
            raise OperationalError from psycopg.errors.DeadlockDetected()
        return one_change()

    module = cancel_module if action == "cancel" else retry_module
    monkeypatch.setattr(module, "one_change", tied)
    assert alice.post(f"/t/acme/tasks/{task.pk}/{action}").status_code == 302
    task.refresh_from_db()
    assert task.status == (Status.CANCELLED if action == "cancel" else Status.QUEUED)
    assert [entry[1] for entry in trail()] == [f"task.{action}"]
