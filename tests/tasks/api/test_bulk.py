"""``/tasks/actions/cancel`` and ``/retry``: oldest first, a dry run tells the truth."""

from __future__ import annotations

from typing import Any

import pytest

from audit.models import AuditEntry
from tasks.models import Task
from tasks.outcomes import Outcome
from tasks.services import bulk
from tasks.services.cancel import cancel
from tasks.services.finish import finish
from tasks.services.retry import retry
from tasks.states import RunStatus
from tests.tasks.api.work import ended, failed, running, submitted
from tests.tenants.callers import World

TASKS = "/api/v1/tenants/acme/tasks"


def act(acme: World, action: str, **body: Any) -> dict[str, Any]:
    """Call a bulk action, dry first: it must tell what the real one then does."""
    body = {"filter": {}, **body}
    dry = acme.token().post(f"{TASKS}/actions/{action}", {**body, "dry_run": True}).json()
    wet = acme.token().post(f"{TASKS}/actions/{action}", body).json()
    assert (dry["matched"], dry["changed"], dry["ids"]) == (wet["matched"], 0, wet["ids"])
    assert wet["changed"] == dry["matched"]
    return dict(wet)


def statuses(*tasks: Task) -> list[str]:
    return [Task.objects.get(pk=task.pk).status for task in tasks]


def test_a_bulk_cancel_reaches_waiting_and_running_tasks_with_their_children(acme: World) -> None:
    waiting, run = submitted(acme.acme), submitted(acme.acme)
    child = submitted(acme.acme, depends_on=(waiting.pk,))
    running(run)
    done = ended(submitted(acme.acme))
    wet = act(acme, "cancel", reason="all of it")
    assert wet["ids"] == [str(task.pk) for task in (waiting, run, child)]
    assert statuses(waiting, run, child, done) == ["cancelled", "running", "cancelled", "completed"]
    child.refresh_from_db()
    # It was asked for itself, so a retry of its parent does not bring it back.
    assert (child.status_reason, child.cancel_reason) == ("user_cancelled", "all of it")
    assert act(acme, "cancel")["matched"] == 0


def test_large_matches_are_changed_in_batches(acme: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "BATCH", 3)
    tasks = [submitted(acme.acme) for _ in range(8)]
    child = submitted(acme.acme, depends_on=(tasks[0].pk,))
    assert act(acme, "cancel")["changed"] == 9
    assert set(statuses(*tasks, child)) == {"cancelled"}
    assert len(AuditEntry.objects.get(action="task.cancel_many").data["tasks"]) == 9


def test_a_bulk_retry_takes_no_task_that_somebody_wanted_to_stop(acme: World) -> None:
    broken = failed(submitted(acme.acme))
    stopped = cancel(submitted(acme.acme).pk, by="user:bob").task
    asked = submitted(acme.acme)
    claimed = running(asked)
    cancel(asked.pk, by="user:bob")
    finish(asked.pk, claimed.epoch, Outcome(RunStatus.FAILED, error={"code": "e", "message": "m"}))
    replaced = submitted(acme.acme, key="k")
    submitted(acme.acme, key="k", key_policy="replace")
    assert act(acme, "retry")["ids"] == [str(broken.pk)]
    assert statuses(broken, stopped, asked, replaced) == ["queued", "cancelled", "failed", "cancelled"]


def test_a_bulk_retry_brings_children_back_with_their_parents_not_by_themselves(acme: World) -> None:
    parent = submitted(acme.acme)
    child = submitted(acme.acme, depends_on=(parent.pk,))
    failed(parent)
    assert act(acme, "retry", filter={"status": "cancelled"})["matched"] == 0
    assert act(acme, "retry")["ids"] == [str(parent.pk)]
    assert statuses(parent, child) == ["queued", "blocked"]


def test_the_lists_filters_pick_and_the_limit_takes_the_oldest(acme: World) -> None:
    ruff = [failed(submitted(acme.acme, "lint.ruff")) for _ in range(3)]
    other = failed(submitted(acme.acme))
    before = ruff[2].finished_at.isoformat() if ruff[2].finished_at else ""
    chosen = {"type": "lint.*", "status": ["failed"], "finished_before": before}
    assert act(acme, "retry", filter=chosen, limit=2)["ids"] == [str(task.pk) for task in ruff[:2]]
    assert statuses(*ruff, other) == ["queued", "queued", "failed", "failed"]


def test_what_moved_on_between_picking_and_changing_is_left_alone(acme: World) -> None:
    tasks = [failed(submitted(acme.acme)) for _ in range(2)]
    retry(tasks[0].pk, by="user:bob")
    cancel(tasks[0].pk, by="user:bob")
    assert bulk.retry_many([task.pk for task in tasks], by="user:alice") == [tasks[1].pk]
    assert bulk.cancel_many([task.pk for task in tasks], by="user:alice") == [tasks[1].pk]
