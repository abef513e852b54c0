"""Which request an event is due to: said by each that a request causes, and by no other."""

from __future__ import annotations

from typing import Any

from structlog.contextvars import bound_contextvars

from rest.request_id import answering
from tasks.models import Event, Later, Task
from tasks.services.cancel import cancel
from tasks.services.release import due
from tests.questions import questions
from tests.tasks.api.work import failed, running, submitted
from tests.tenants.callers import World

TASKS = "/api/v1/tenants/acme/tasks"


def causes(task: Any) -> list[str | None]:
    """Return, for each event of a task in order, the request that it names."""
    events = Event.objects.filter(task_id=getattr(task, "pk", task)).order_by("seq")
    return [event.data.get("request_id") for event in events]


def act(acme: World, name: str, path: str, body: Any = None, caller: Any = None) -> Any:
    """Send a POST that calls itself ``name``."""
    answer = (caller or acme.token()).post(f"{TASKS}{path}", body or {}, X_Request_ID=name)
    assert answer.status_code in (200, 201), answer.content
    return answer.json()


def test_a_cancel_names_itself_on_the_task_and_on_all_that_go_with_it(acme: World) -> None:
    parent = submitted(acme.acme)
    child = submitted(acme.acme, depends_on=(parent.pk,))
    grandchild = submitted(acme.acme, depends_on=(child.pk,))
    act(acme, "stop", f"/{parent.pk}/cancel")
    assert [causes(task) for task in (parent, child, grandchild)] == [[None, "stop"]] * 3


def test_asking_a_run_to_stop_and_killing_it_are_two_requests(acme: World) -> None:
    task = submitted(acme.acme)
    running(task)
    act(acme, "ask", f"/{task.pk}/cancel")
    act(acme, "kill", f"/{task.pk}/cancel", {"force": True}, acme.operator())
    assert causes(task) == [None, None, "ask", "kill"]


def test_a_retry_names_itself_also_on_the_children_that_come_back(acme: World) -> None:
    parent = submitted(acme.acme)
    child = submitted(acme.acme, depends_on=(parent.pk,))
    failed(parent)
    act(acme, "again", f"/{parent.pk}/retry")
    assert causes(parent)[-1] == causes(child)[-1] == "again"
    # What the run's end did, it did by itself.
    assert causes(child)[:-1] == [None, None]


def test_a_bulk_action_names_itself_on_all_its_tasks(acme: World) -> None:
    tasks = [submitted(acme.acme) for _ in range(2)]
    child = submitted(acme.acme, depends_on=(tasks[0].pk,))
    failed(tasks[1])
    act(acme, "all-back", "/actions/retry", {"filter": {"status": "failed"}})
    act(acme, "all-off", "/actions/cancel", {"filter": {}})
    assert [causes(task)[-1] for task in (*tasks, child)] == ["all-off"] * 3
    assert "all-back" in causes(tasks[1])


def test_a_submit_names_itself_on_what_it_ends(acme: World) -> None:
    parent = submitted(acme.acme)
    failed(parent)
    replaced = submitted(acme.acme, key="k")
    act(acme, "new", "", {"type": "test.dummy", "key": "k", "key_policy": "replace"})
    assert causes(replaced)[-1] == "new"
    child = act(acme, "late", "", {"type": "test.dummy", "depends_on": [str(parent.pk)]})["id"]
    assert causes(child) == ["late", "late"]
    assert Task.objects.get(pk=child).request_id == "late"


def test_what_workers_and_dispatchers_do_names_none(tenant: Any) -> None:
    # A worker's log lines bear the request that submitted the task, but that did not cause the end.
    with bound_contextvars(request_id="of-the-submit"):
        parent = submitted(tenant)
        child = submitted(tenant, depends_on=(parent.pk,))
        failed(parent)
        late = submitted(tenant, inputs=("a",))
        Later.objects.filter(task_id=late.pk).update(due_at="2020-01-01T00:00:00Z")
        assert due(late.pk, "upload")
    for task in (parent, child, late):
        assert set(causes(task)) == {None}


def test_to_name_the_request_costs_no_question(tenant: Any) -> None:
    tasks = [submitted(tenant) for _ in range(3)]
    cancel(tasks[0].pk, by="user:alice")
    with questions() as unnamed:
        cancel(tasks[1].pk, by="user:alice")
    with questions() as named, answering("stop"):
        cancel(tasks[2].pk, by="user:alice")
    assert causes(tasks[2]) == [None, "stop"]
    assert len(named) == len(unnamed)
