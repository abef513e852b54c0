"""Cancels against claims and ends, on real connections at once: decided once, in the database.

Nobody repeats what lost a tie here, so that a deadlock is a failure. ``RACES=200`` tries more.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection, transaction

from tasks.errors import Fenced, KeyConflict, TaskFinished
from tasks.models import Backlog, Event, Inflight, Ready, Run, Task
from tasks.outcomes import Outcome
from tasks.services.bulk import cancel_many
from tasks.services.cancel import cancel
from tasks.services.claim import claim
from tasks.services.finish import finish
from tasks.services.ready import recount_backlog
from tasks.services.retry import retry
from tasks.states import RunStatus
from tenants.models import Limit, Tenant
from tests.tasks.api.work import (
    TOKEN,
    WORKER,
    dispatched,
    failed,
    publish_types,
    running,
    start_platform,
    submitted,
)

LOOPS = int(os.environ.get("RACES", "80"))
FEWER = LOOPS // 4
WHO: dict[str, Any] = {"worker": WORKER, "machine": "m1", "isolation": "process", "pid": 1}

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def lasting(monkeypatch: pytest.MonkeyPatch) -> Tenant:
    """A tenant whose rows other connections see, and where every tie shows."""
    monkeypatch.setattr("rest.ties.RETRIES", 0)
    publish_types()
    start_platform()
    return Tenant.objects.create(slug="racers", name="Racers")


class Racer:
    """A thread with a connection of its own that does one thing a round, at the same time as others."""

    def __init__(self, loops: int, line: threading.Barrier, act: Callable[[int], Any]) -> None:
        self.results: list[Any] = []
        self._loops, self._line, self._act = loops, line, act
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        try:
            for number in range(self._loops):
                self._line.wait(30)
                try:
                    self.results.append(self._act(number))
                except (TaskFinished, Fenced) as refused:
                    self.results.append(type(refused))
                except Exception as unexpected:
                    self.results.append(unexpected)
                self._line.wait(30)
        finally:
            connection.close()


def race(loops: int, prepare: Callable[[int], None], *acts: Callable[[int], Any]) -> Iterator[list[Any]]:
    """Prepare a round, let all act at once, and yield what each of them got."""
    line = threading.Barrier(len(acts) + 1)
    racers = [Racer(loops, line, act) for act in acts]
    for number in range(loops):
        prepare(number)
        line.wait(30)
        line.wait(30)
        results = [racer.results[-1] for racer in racers]
        for unexpected in filter(lambda result: isinstance(result, Exception), results):
            line.abort()
            raise unexpected
        yield results
    for racer in racers:
        racer.thread.join(30)


def test_a_cancel_against_a_claim_never_lets_a_cancelled_task_start(lasting: Tenant) -> None:
    at: dict[str, Any] = {}
    seen: Counter[str] = Counter()

    def prepare(_number: int) -> None:
        at["task"] = submitted(lasting)
        at["row"] = dispatched(at["task"])

    def take(_number: int) -> Any:
        return claim(at["task"].pk, at["row"].epoch, TOKEN, queue="normal", **WHO)

    def stop(_number: int) -> Any:
        return cancel(at["task"].pk, by="user:bob").task.status

    for claimed, status in race(LOOPS, prepare, take, stop):
        task = Task.objects.get(pk=at["task"].pk)
        seen[task.status] += 1
        if status == "cancelled":
            assert claimed is None
            assert (task.started_at, Run.objects.filter(task=task).count()) == (None, 0)
            assert not Inflight.objects.filter(pk=task.pk).exists()
        else:
            assert claimed is not None
            assert Inflight.objects.get(pk=task.pk).ask == "cancel"
            assert task.cancel_requested_by == "user:bob"
            finish(task.pk, claimed.epoch, Outcome(RunStatus.CANCELLED))
    assert sum(seen.values()) == LOOPS
    assert seen["cancelled"] + seen["running"] == LOOPS


def test_a_cancel_against_a_failing_end_never_leads_to_a_retry(lasting: Tenant) -> None:
    at: dict[str, Any] = {}
    failure = Outcome(RunStatus.FAILED, error={"code": "e", "message": "m"})

    def prepare(_number: int) -> None:
        at["task"] = submitted(lasting, max_retries=3)
        at["run"] = running(at["task"])

    def fail(_number: int) -> Any:
        return finish(at["task"].pk, at["run"].epoch, failure)

    def stop(_number: int) -> Any:
        return cancel(at["task"].pk, by="user:bob").changed

    for _status, changed in race(FEWER, prepare, fail, stop):
        task = Task.objects.get(pk=at["task"].pk)
        # Whoever came first: it has ended, and nothing of it waits for another attempt.
        assert (changed, task.status in ("cancelled", "failed")) in ((True, True), (TaskFinished, True))
        assert not Ready.objects.filter(pk=task.pk).exists()
        events = Event.objects.filter(task_id=task.pk, kind="state").order_by("seq")
        assert [event.data["status"] for event in events][-1] == task.status


def test_two_cancels_and_an_end_agree_on_one_end(lasting: Tenant) -> None:
    at: dict[str, Any] = {}

    def prepare(_number: int) -> None:
        at["task"] = submitted(lasting)
        at["run"] = running(at["task"])

    def stop(_number: int) -> Any:
        return cancel(at["task"].pk, by="user:bob").changed

    def succeed(_number: int) -> Any:
        return finish(at["task"].pk, at["run"].epoch, Outcome(RunStatus.COMPLETED))

    for one, two, status in race(FEWER, prepare, stop, stop, succeed):
        assert [one, two].count(True) <= 1
        assert status == "completed"
        events = Event.objects.filter(task_id=at["task"].pk)
        assert events.filter(data__status="completed").count() == 1
        asked = events.filter(data__cancel_requested=True).count()
        assert asked == [one, two].count(True)


def test_of_two_submissions_with_one_key_only_one_is_accepted(lasting: Tenant) -> None:
    def take(number: int) -> str:
        try:
            return str(submitted(lasting, key=f"key-{number}").pk)
        except KeyConflict as conflict:
            return str(conflict.extra["task"])

    for one, two in race(FEWER, lambda _number: None, take, take):
        assert one == two
    assert Task.objects.filter(tenant=lasting).count() == FEWER


@pytest.mark.parametrize(
    ("end", "children"),
    [
        (Outcome(RunStatus.COMPLETED), ("queued", "blocked")),
        (Outcome(RunStatus.FAILED, retry=False), ("cancelled", "cancelled")),
    ],
    ids=["completed", "failed"],
)
def test_who_is_added_while_the_graph_ends_is_never_forgotten(
    lasting: Tenant, end: Outcome, children: tuple[str, str]
) -> None:
    at: dict[str, Any] = {}

    def prepare(_number: int) -> None:
        at["parent"] = submitted(lasting)
        at["child"] = submitted(lasting, depends_on=(at["parent"].pk,))
        at["run"] = running(at["parent"])

    def stop(_number: int) -> Any:
        return finish(at["parent"].pk, at["run"].epoch, end)

    def add(above: str) -> Callable[[int], Any]:
        return lambda _number: submitted(lasting, depends_on=(at[above].pk,)).pk

    for _status, child, grandchild in race(FEWER, prepare, stop, add("parent"), add("child")):
        now = dict(Task.objects.filter(pk__in=(child, grandchild)).values_list("pk", "status"))
        assert (now[child], now[grandchild]) == children


@pytest.fixture
def counted(lasting: Tenant) -> Callable[[], None]:
    """Give the tenant queued limits, so that its lines are counted; calling it counts them anew."""
    for queue in ("", "normal"):
        Limit.objects.create(tenant=lasting, queue=queue, queued=10_000)

    def recount() -> None:
        with transaction.atomic():
            recount_backlog([(lasting.pk, ""), (lasting.pk, "normal")])

    return recount


def in_line(tenant: Tenant) -> int:
    """How many tasks are in line, once the counters have been found to say the same."""
    there = Ready.objects.filter(tenant_id=tenant.pk).count()
    rows = Backlog.objects.filter(tenant_id=tenant.pk).exclude(queue="rate")  # which counts nothing
    counters = rows.values_list("queued", flat=True)
    assert set(counters) == {there}
    return there


def test_a_retry_and_a_submission_below_it_never_block_each_other(
    lasting: Tenant, counted: Callable[[], None]
) -> None:
    at: dict[str, Any] = {}

    def prepare(_number: int) -> None:
        parent = submitted(lasting)
        at["parent"] = parent.pk
        at["child"] = submitted(lasting, depends_on=(parent.pk,)).pk
        failed(parent)
        counted()

    def again(_number: int) -> Any:
        return retry(at["parent"], by="user:bob").status

    def below(_number: int) -> Any:
        return submitted(lasting, depends_on=(at["child"],), on_parent_failure="run").status

    lines = 0
    for retried, added in race(FEWER, prepare, again, below):
        assert (retried, added in ("queued", "blocked")) == ("queued", True)
        lines += 1 + (added == "queued")
    assert in_line(lasting) == lines


def test_graphs_that_share_a_child_and_a_limited_lane_never_block_each_other(
    lasting: Tenant, counted: Callable[[], None]
) -> None:
    at: dict[str, Any] = {}
    done = Outcome(RunStatus.COMPLETED)

    def prepare(_number: int) -> None:
        one, two = submitted(lasting), submitted(lasting)
        at["ends"] = [(task.pk, running(task).epoch) for task in (one, two)]
        counted()
        submitted(lasting, depends_on=(one.pk,))
        submitted(lasting, depends_on=(one.pk, two.pk))
        submitted(lasting, depends_on=(two.pk,))
        at["picks"] = [submitted(lasting).pk for _ in range(2)]

    def end(which: int) -> Callable[[int], Any]:
        return lambda _number: finish(*at["ends"][which], done)

    def many(_number: int) -> Any:
        return len(cancel_many(at["picks"], by="user:bob"))

    for one, two, cancelled in race(FEWER, prepare, end(0), end(1), many):
        assert (one, two, cancelled) == ("completed", "completed", 2)
    assert in_line(lasting) == 3 * FEWER


def test_submissions_that_replace_others_and_the_submit_rate_never_block_each_other(
    lasting: Tenant, counted: Callable[[], None]
) -> None:
    Limit.objects.filter(tenant=lasting, queue="").update(submit_per_second=10_000)
    submitted(lasting, key="k", key_policy="replace")
    counted()

    def replace(_number: int) -> Any:
        return submitted(lasting, key="k", key_policy="replace").status

    def add(_number: int) -> Any:
        return submitted(lasting).status

    for statuses in race(LOOPS, lambda _number: None, replace, add, add):
        assert statuses == ["queued"] * 3
    assert in_line(lasting) == 2 * LOOPS + 1


def test_submissions_that_replace_others_of_another_queue_never_block_each_other(
    lasting: Tenant,
) -> None:
    queues = ("normal", "batch")
    for queue in queues:
        Limit.objects.create(tenant=lasting, queue=queue, queued=10_000)
        submitted(lasting, key=queue, queue=queue)
    with transaction.atomic():
        recount_backlog((lasting.pk, queue) for queue in queues)

    def swap(key: str) -> Callable[[int], Any]:
        """Replace the task of a key by one of the other queue, each time."""

        def act(number: int) -> Any:
            queue = queues[(queues.index(key) + number + 1) % 2]
            return submitted(lasting, key=key, key_policy="replace", queue=queue).queue

        return act

    for first, second in race(LOOPS, lambda _number: None, swap("normal"), swap("batch")):
        assert {first, second} == set(queues)
    lines = dict(Backlog.objects.filter(tenant_id=lasting.pk).values_list("queue", "queued"))
    assert lines == {"normal": 1, "batch": 1}
