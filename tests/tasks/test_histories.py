"""Whatever happens to tasks, in whatever order: their events give their rows, and the tables agree.

A state machine of hypothesis does everything that clients, dispatcher, supervisors, reaper and clock can
do, with the statements that these use, on a real PostgreSQL; after each step every promise about the
tables is checked. ``HISTORIES=500`` tries more.
"""

from __future__ import annotations

import os
import uuid
from collections import Counter, defaultdict
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from rest.errors import Conflict
from tasks.errors import Fenced
from tasks.models import Backlog, Event, Inflight, Later, LogChunk, Parked, Ready, Run, Task
from tasks.outcomes import Outcome
from tasks.parents import Prospect
from tasks.replay import BadHistory, replay
from tasks.services.append import Checkpoint, Progress, append
from tasks.services.bulk import cancel_many, retry_many
from tasks.services.cancel import cancel
from tasks.services.claim import claim
from tasks.services.finish import finish
from tasks.services.graph import judgement_of
from tasks.services.lose import lose_now
from tasks.services.release import due
from tasks.services.retry import retry
from tasks.states import TERMINAL, RunStatus, Status
from tenants.models import Limit, Tenant
from tests.tasks.api.work import WORKER, lines, publish_types, start_platform, submitted
from tests.workers.dispatcher.returning import unpark
from workers.dispatcher import parked, store
from workers.dispatcher.lanes import FRONT

EXAMPLES = int(os.environ.get("HISTORIES", "10"))
LEADER = 1
WHO: dict[str, Any] = {"worker": WORKER, "machine": "m1", "isolation": "process", "pid": 1}
BY = "user:bob"
number = st.integers(0, 1000)
REPLAYED = (
    *("status", "status_reason", "last_seq", "life", "attempt", "failures", "losses", "crashes"),
    *("restarts", "preemptions", "progress_percent", "progress_step", "error", "cancel_reason"),
)


class Histories(RuleBasedStateMachine):
    """A tenant, its tasks, and everybody who has to do with them."""

    def __init__(self) -> None:
        super().__init__()
        self.around = transaction.atomic()
        self.around.__enter__()
        publish_types()
        start_platform()
        self.tenant = Tenant.objects.create(slug=f"t{uuid.uuid4().hex[:8]}", name="T")
        for queue in ("", "normal"):
            Limit.objects.create(tenant=self.tenant, queue=queue, queued=1000)
        self.epochs: list[tuple[uuid.UUID, int]] = []

    def teardown(self) -> None:
        transaction.set_rollback(True)
        self.around.__exit__(None, None, None)

    def some(self, which: int, *statuses: Status) -> Task | None:
        """Return one of the tasks that are in a status, any if none is named."""
        found = Task.objects.filter(tenant=self.tenant).order_by("ordinal")
        if statuses:
            found = found.filter(status__in=statuses)
        tasks = list(found)
        return tasks[which % len(tasks)] if tasks else None

    # -- clients --

    @rule(
        parents=st.lists(number, max_size=2),
        anyway=st.booleans(),
        idempotent=st.booleans(),
        retries=st.integers(0, 2),
        wait=st.sampled_from(["", "", "", "start", "timeout", "inputs"]),
        key=st.sampled_from([None, None, "reject", "replace"]),
    )
    def submit(
        self,
        parents: list[int],
        anyway: bool,
        idempotent: bool,
        retries: int,
        wait: str,
        key: str | None,
    ) -> None:
        options: dict[str, Any] = {"idempotent": idempotent, "max_retries": retries}
        chosen = [self.some(which) for which in parents]
        options["depends_on"] = tuple({task.pk for task in chosen if task is not None})
        if anyway:
            options["on_parent_failure"] = "run"
        if wait == "start":
            options["scheduled_for"] = timezone.now() + timedelta(hours=1)
        if wait == "timeout":
            options["queue_timeout"] = 100
        if wait == "inputs":
            options["inputs"] = ("a",)
        if key:
            options |= {"key": "k", "key_policy": key}
        try:
            submitted(self.tenant, **options)
        except Conflict:
            assert key == "reject"

    @rule(which=number, force=st.booleans())
    def cancel(self, which: int, force: bool) -> None:
        task = self.some(which)
        if task is None:
            return
        try:
            cancel(task.pk, by=BY, reason="r", force=force)
        except Conflict:
            assert task.status in TERMINAL

    @rule(which=number)
    def retry(self, which: int) -> None:
        task = self.some(which, Status.FAILED, Status.CANCELLED, Status.DROPPED)
        if task is None:
            return
        try:
            assert retry(task.pk, by=BY).life == task.life + 1
        except Conflict:
            assert Task.objects.get(pk=task.pk).life == task.life

    @rule(which=st.lists(number, min_size=1, max_size=4), again=st.booleans())
    def many(self, which: list[int], again: bool) -> None:
        tasks = {task.ordinal: task.pk for task in map(self.some, which) if task is not None}
        act = retry_many if again else cancel_many
        act([tasks[ordinal] for ordinal in sorted(tasks)], by=BY)

    # -- dispatcher and clock --

    def dispatch(self, which: int) -> store.Doorbell | None:
        rows = list(Ready.objects.filter(tenant_id=self.tenant.pk).order_by("ordinal"))
        if not rows:
            return None
        row = rows[which % len(rows)]
        lane = store.heads(row.queue, {self.tenant.pk: FRONT}, len(rows))[self.tenant.pk]
        chosen = [candidate for candidate in lane if candidate.task_id == row.task_id]
        (bell,) = store.dispatch(LEADER, store.limits_revision(), chosen)
        return bell

    @rule(which=number)
    def publish_only(self, which: int) -> None:
        self.dispatch(which)

    @rule(which=number)
    def run(self, which: int) -> None:
        bell = self.dispatch(which)
        if bell is not None:
            assert claim(bell.task_id, bell.epoch, bell.token, queue=bell.queue, **WHO) is not None
            assert claim(bell.task_id, bell.epoch, bell.token, queue=bell.queue, **WHO) is None
            self.epochs.append((bell.task_id, bell.epoch))

    @rule()
    def publish_again(self) -> None:
        rows = Inflight.objects.filter(state="dispatched").values_list("task_id", "epoch")
        for bell in store.republish(LEADER, list(rows)):
            assert claim(bell.task_id, bell.epoch - 1, bell.token, queue=bell.queue, **WHO) is None

    @rule(which=number)
    def park(self, which: int) -> None:
        rows = list(Ready.objects.filter(tenant_id=self.tenant.pk).values_list("task_id", flat=True))
        if rows:
            parked.park(LEADER, [rows[which % len(rows)]], "no_worker")

    @precondition(lambda self: Parked.objects.exists())
    @rule()
    def unpark(self) -> None:
        types = dict(Parked.objects.values_list("type_id", "type_version"))
        unpark(LEADER, "normal", types)

    @precondition(lambda self: Later.objects.exists())
    @rule(which=number)
    def time_passes(self, which: int) -> None:
        rows = list(Later.objects.order_by("task_id", "what"))
        row = rows[which % len(rows)]
        past = timezone.now() - timedelta(seconds=1)
        Later.objects.filter(pk=row.pk).update(due_at=past)
        if row.what == "start":
            Task.objects.filter(pk=row.task_id).update(scheduled_for=past)
        due(row.task_id, row.what)
        assert not due(row.task_id, row.what)

    # -- supervisors and the reaper --

    @rule(which=number, percent=st.integers(0, 99))
    def say(self, which: int, percent: int) -> None:
        task = self.some(which, Status.RUNNING)
        if task is not None:
            now = timezone.now()
            said = [Progress(now, percent, "s"), lines(now, "line"), Checkpoint(now, {"n": percent})]
            append(task.pk, task.epoch, said)

    @rule(which=number, retry=st.sampled_from([None, None, False, True]), timed_out=st.booleans())
    def fail(self, which: int, retry: bool | None, timed_out: bool) -> None:
        status = RunStatus.TIMED_OUT if timed_out else RunStatus.FAILED
        self.end(which, Outcome(status, error={"code": "e", "message": "m"}, retry=retry))

    @rule(which=number)
    def succeed(self, which: int) -> None:
        self.end(which, Outcome(RunStatus.COMPLETED, result={"n": 1}))

    @rule(
        which=number,
        status=st.sampled_from([RunStatus.PREEMPTED, RunStatus.DROPPED]),
        checkpointed=st.booleans(),
    )
    def interrupt(self, which: int, status: RunStatus, checkpointed: bool) -> None:
        self.end(which, Outcome(status, checkpointed=checkpointed))

    @rule(which=number, crashed=st.booleans())
    def lose(self, which: int, crashed: bool) -> None:
        task = self.some(which, Status.RUNNING)
        if task is not None:
            assert lose_now(task.pk, epoch=task.epoch, crashed=crashed) is not None

    @rule(which=number)
    def honour_a_cancel(self, which: int) -> None:
        task = self.some(which, Status.RUNNING)
        if task is not None and task.cancel_requested_at is not None:
            finish(task.pk, task.epoch, Outcome(RunStatus.CANCELLED))

    @precondition(lambda self: self.epochs)
    @rule(which=number)
    def wake_a_zombie(self, which: int) -> None:
        task_id, epoch = self.epochs[which % len(self.epochs)]
        task = Task.objects.get(pk=task_id)
        if task.status == Status.RUNNING and task.epoch == epoch:
            return
        with pytest.raises(Fenced):
            append(task_id, epoch, [Progress(timezone.now(), 99, "late")])
        with pytest.raises(Fenced):
            finish(task_id, epoch, Outcome(RunStatus.COMPLETED))

    def end(self, which: int, outcome: Outcome) -> None:
        task = self.some(which, Status.RUNNING)
        if task is None:
            return
        status = finish(task.pk, task.epoch, outcome)
        if task.cancel_requested_at is not None:
            assert status in TERMINAL

    # -- what always holds --

    @invariant()
    def events_give_rows(self) -> None:
        histories: dict[uuid.UUID, list[dict[str, Any]]] = defaultdict(list)
        for event in Event.objects.values("task_id", "seq", "kind", "data"):
            histories[event["task_id"]].append(event)
        for chunk in LogChunk.objects.values("task_id", "seq"):
            histories[chunk["task_id"]].append({**chunk, "kind": "log", "data": {}})
        for task in Task.objects.all():
            told = replay(sorted(histories[task.pk], key=lambda event: event["seq"]))
            row = {name: getattr(task, name) for name in REPLAYED}
            assert {name: getattr(told, name) for name in REPLAYED} == row
            assert (told.cancel_requested_by or "") == task.cancel_requested_by
            assert (told.cancel_requested_by is None) == (task.cancel_requested_at is None)
            assert told.finished == (task.finished_at is not None) == (task.status in TERMINAL)
            assert told.started == (task.started_at is not None)
            due_at = told.next_retry_at and datetime.fromisoformat(told.next_retry_at)
            assert due_at == task.next_retry_at

    @invariant()
    def places_follow_statuses(self) -> None:
        ready = set(Ready.objects.values_list("task_id", flat=True))
        parked = set(Parked.objects.values_list("task_id", flat=True))
        inflight = dict(Inflight.objects.values_list("task_id", "state"))
        live = Counter(Run.objects.filter(status="running").values_list("task_id", flat=True))
        later: dict[uuid.UUID, set[str]] = defaultdict(set)
        for task_id, what in Later.objects.values_list("task_id", "what"):
            later[task_id].add(what)
        always = {
            Status.SCHEDULED: {"start"},
            Status.RETRY_WAIT: {"retry"},
            Status.ALLOCATED: {"upload"},
        }
        for task in Task.objects.all():
            places = [task.pk in ready, task.pk in parked, inflight.get(task.pk) == "dispatched"]
            assert sum(places) == (task.status == Status.QUEUED), task.status
            assert (inflight.get(task.pk) == "running") == (task.status == Status.RUNNING)
            assert live[task.pk] == (task.status == Status.RUNNING)
            reminders = later[task.pk] - {"queue_timeout"}
            assert reminders == always.get(Status(task.status), set())
            timeout = "queue_timeout" in later[task.pk]
            assert not (timeout and task.status in TERMINAL)
            waiting = task.status in (Status.SCHEDULED, Status.BLOCKED, Status.QUEUED)
            if waiting and task.queue_timeout and task.started_at is None:
                assert timeout
            if task.status == Status.BLOCKED:
                assert judgement_of(task).prospect is Prospect.WAITING

    @invariant()
    def counters_equal_a_recount(self) -> None:
        own = {"tenant_id": self.tenant.pk}
        there = Ready.objects.filter(**own).count() + Parked.objects.filter(**own).count()
        for counter in Backlog.objects.filter(**own):
            assert counter.queued == there, counter.queue


@pytest.mark.django_db
def test_the_events_of_any_history_give_its_rows() -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Histories,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=30,
            deadline=None,
            database=None,
            # A failing history is thirty readable steps; shrinking it takes minutes, and is worth it
            # only to who is looking for the reason.
            phases=[Phase.generate, *([Phase.shrink] if "HISTORIES" in os.environ else [])],
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert connection.in_atomic_block


@pytest.mark.parametrize(
    "events",
    [
        [],
        [(2, "state", {"status": "queued"})],
        [(1, "state", {"status": "running"})],
        [(1, "state", {"status": "queued"}), (3, "note", {})],
        [
            (1, "state", {"status": "queued"}),
            (2, "state", {"status": "completed", "from": "queued", "reason": None}),
        ],
        [
            (1, "state", {"status": "queued"}),
            (2, "state", {"status": "cancelled", "from": "blocked", "reason": None}),
        ],
    ],
)
def test_what_cannot_be_a_history_is_refused(events: list[tuple[int, str, dict[str, Any]]]) -> None:
    with pytest.raises(BadHistory):
        replay([{"seq": seq, "kind": kind, "data": data} for seq, kind, data in events])
