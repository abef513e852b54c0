"""``dry_run``: what would become of a task, in which place, and about when."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from tasks.models import Estimate, Pause, TaskType
from tenants.models import Limit
from tests.tasks.api.work import running, submitted
from tests.tenants.callers import World

TASKS = "/api/v1/tenants/acme/tasks"


def dry(acme: World, **options: Any) -> dict[str, Any]:
    answer = acme.token().post(TASKS, {"type": "test.dummy", "dry_run": True, **options})
    assert answer.status_code == 200
    told: dict[str, Any] = answer.json()
    return told


def seconds_away(told: dict[str, Any]) -> float:
    at = datetime.fromisoformat(told["estimated_start"])
    return (at - datetime.now(UTC)).total_seconds()


def test_a_task_that_can_start_would_start_now(acme: World) -> None:
    told = dry(acme)
    assert (told["would"], told["position"]) == ("start", 0)
    assert seconds_away(told) == pytest.approx(0, abs=2)


def test_who_waits_in_line_is_told_about_when_by_how_long_the_last_ones_took(acme: World) -> None:
    dummy = TaskType.objects.get(name="test.dummy")
    Estimate.objects.create(type_id=dummy.pk, tenant_id=acme.acme.pk, seconds=60)
    Estimate.objects.create(type_id=dummy.pk, seconds=5)
    for _ in range(3):
        submitted(acme.acme)
    # Two slots, three before it, a minute each.
    told = dry(acme)
    assert (told["position"], told["waiting_for"]["reason"]) == (3, "dispatch")
    assert seconds_away(told) == pytest.approx(120, abs=10)
    # It runs one at a time.
    running(submitted(acme.acme, priority=9))
    Limit.objects.create(tenant=acme.acme, queue="normal", running=1)
    told = dry(acme)
    assert told["waiting_for"] == {
        "reason": "quota",
        "detail": "acme runs 1 of 1 normal tasks.",
        "position": 3,
    }
    assert seconds_away(told) == pytest.approx(240, abs=10)


@pytest.mark.parametrize(("policy", "reason"), [("queue", "key"), ("replace", None)])
def test_who_wants_a_key_that_is_taken_is_told_by_whom(
    acme: World, policy: str, reason: str | None
) -> None:
    first = submitted(acme.acme, key="deploy", key_policy="queue")
    submitted(acme.acme, key="deploy", key_policy="queue")
    told = dry(acme, key="deploy", key_policy=policy)
    if reason is not None:
        assert told["waiting_for"] == {
            "reason": "key",
            "detail": f"Task {first.pk} has the key deploy.",
            "position": 1,
        }
        assert told["estimated_start"] is None
    else:
        assert told["waiting_for"]["reason"] != "key"
    running(first)
    assert dry(acme, key="deploy", key_policy=policy)["waiting_for"]["reason"] == "key"


@pytest.mark.parametrize(("subject", "name"), [("queue", "normal"), ("type", "test.dummy")])
def test_what_is_paused_has_no_time(acme: World, subject: str, name: str) -> None:
    Pause.objects.create(subject=subject, name=name, by="operator")
    told = dry(acme)
    assert told["waiting_for"]["reason"] == "paused"
    assert name in told["waiting_for"]["detail"]
    assert told["estimated_start"] is None
