"""Pausing a queue, a task type or a tenant: nothing of it is sent, and everybody is told why."""

from __future__ import annotations

import pytest

from audit.models import AuditEntry
from tasks.models import Inflight, Parked, Ready, Task
from tasks.selectors.waiting import waiting_for
from tests.tasks.api.work import submitted
from tests.tenants.callers import World
from tests.workers.dispatcher.rounds import dispatcher, go_round
from workers.dispatcher.loop import Dispatcher

__all__ = ["dispatcher"]

OPERATOR = "/api/v1/operator"


def told(task: Task) -> tuple[str, str]:
    found = waiting_for(task) or {}
    return found["reason"], found["detail"]


@pytest.mark.parametrize(
    ("path", "detail"),
    [
        ("queues/normal", "The queue normal is paused by an operator."),
        ("task-types/test.dummy", "The task type test.dummy is paused by an operator."),
        ("tenants/acme", "The tenant acme is paused by an operator."),
    ],
)
def test_what_is_paused_waits_and_goes_on_when_it_is_resumed(
    acme: World, dispatcher: Dispatcher, path: str, detail: str
) -> None:
    operator = acme.operator()
    assert operator.send("POST", f"{OPERATOR}/{path}/pause", {}).status_code == 200
    task = submitted(acme.acme)
    other = submitted(acme.other, "lint.ruff")
    assert told(task) == ("paused", detail)
    assert go_round(dispatcher) == {other.pk}
    assert told(task) == ("paused", detail)
    assert operator.send("POST", f"{OPERATOR}/{path}/resume", {}).status_code == 200
    assert go_round(dispatcher) == {other.pk, task.pk}
    assert not Ready.objects.exists()
    assert not Parked.objects.exists()


@pytest.mark.parametrize("path", ["queues/batch", "task-types/lint.ruff"])
def test_a_pause_is_audited_once_and_listed_with_its_reason(acme: World, path: str) -> None:
    operator = acme.operator()
    pause = f"{OPERATOR}/{path}/pause"
    assert operator.send("POST", pause, {"reason": "a bad release"}).json()["changed"]
    assert not operator.send("POST", pause, {}).json()["changed"]
    (listed,) = operator.get(f"{OPERATOR}/pauses").json()["results"]
    assert (listed["name"], listed["reason"]) == (path.split("/")[1], "a bad release")
    assert operator.send("POST", f"{OPERATOR}/{path}/resume", {}).json()["changed"]
    assert operator.get(f"{OPERATOR}/pauses").json()["results"] == []
    actions = AuditEntry.objects.filter(action__regex="pause|resume").order_by("pk")
    assert [entry.action.split(".")[1] for entry in actions] == ["pause", "resume"]


@pytest.mark.parametrize("path", ["queues/fast", "task-types/no.such", "tenants/no-such"])
def test_what_does_not_exist_cannot_be_paused(acme: World, path: str) -> None:
    assert acme.operator().send("POST", f"{OPERATOR}/{path}/pause", {}).status_code == 404


def test_only_operators_pause(acme: World) -> None:
    for path in ("queues/normal", "task-types/test.dummy", "tenants/acme"):
        for verb in ("pause", "resume"):
            answer = acme.user("alice").send("POST", f"{OPERATOR}/{path}/{verb}", {})
            assert answer.status_code in (403, 404)


def test_a_decision_from_before_a_pause_is_void(acme: World, dispatcher: Dispatcher) -> None:
    submitted(acme.acme)
    dispatcher._look({"*"})
    acme.operator().send("POST", f"{OPERATOR}/task-types/test.dummy/pause", {})
    dispatcher._dispatch()
    assert not Inflight.objects.exists()
