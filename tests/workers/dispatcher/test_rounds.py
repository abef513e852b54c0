"""What a round does first, what it leaves for later, and what it believes between two looks."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

from tasks.models import Inflight, Leader, Ready, TaskType, Worker
from tasks.outcomes import Outcome
from tasks.services.claim import claim
from tasks.services.finish import finish
from tasks.states import RunStatus
from tenants.models import Limit, Tenant
from tests.tasks.api.work import WORKER, submitted
from workers.dispatcher import loop, store
from workers.dispatcher.allowances import DEFAULT_SECONDS
from workers.dispatcher.lanes import FRONT, MAX_DEPTH, Candidate
from workers.dispatcher.loop import Dispatcher
from workers.dispatcher.pace import Chore, Pace
from workers.dispatcher.store import Doorbell

SLOTS = 2


class Heard:
    """Stands for the publisher and keeps what it is given."""

    broker_down = False

    def __init__(self) -> None:
        self.bells: list[Doorbell] = []

    def publish(self, bells: list[Doorbell]) -> None:
        self.bells.extend(bells)

    def flush(self) -> None:
        pass


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def dispatcher(tenant: Tenant, heard: Heard) -> Iterator[Dispatcher]:
    """A leading dispatcher that has looked at everything."""
    Leader.objects.filter(name="dispatcher").update(renewed_at="2020-01-01T00:00:00Z")
    dispatcher = Dispatcher()
    dispatcher._publisher = heard  # type: ignore[assignment]
    assert dispatcher._take_lead()
    dispatcher._round({"*"})
    yield dispatcher
    dispatcher._resign()


def woken(tenant: Tenant) -> set[str]:
    return {f"normal:{tenant.pk}"}


def run_and_end(bell: Doorbell) -> None:
    claimed = claim(
        bell.task_id,
        bell.epoch,
        bell.token,
        queue=bell.queue,
        worker=WORKER,
        machine="m1",
        isolation="process",
        pid=1,
    )
    assert claimed is not None
    finish(bell.task_id, claimed.epoch, Outcome(RunStatus.COMPLETED))


def test_a_woken_lane_is_served_before_anything_is_looked_up(
    tenant: Tenant, dispatcher: Dispatcher, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = submitted(tenant)
    steps: list[str] = []
    for name in ("heads", "dispatch", "inflight", "limits_revision"):
        function = getattr(store, name)

        def noted(*arguments: object, name: str = name, function: object = function) -> object:
            steps.append(name)
            return function(*arguments)  # type: ignore[operator]

        monkeypatch.setattr(store, name, noted)
    dispatcher._round(woken(tenant))
    assert [bell.task_id for bell in heard.bells] == [task.pk]
    assert steps[:2] == ["heads", "dispatch"]


def test_the_slot_of_an_ended_run_is_filled_in_the_round_that_hears_of_it(
    tenant: Tenant, dispatcher: Dispatcher, heard: Heard
) -> None:
    tasks = [submitted(tenant) for _ in range(SLOTS + 1)]
    dispatcher._round(woken(tenant))
    assert [bell.task_id for bell in heard.bells] == [task.pk for task in tasks[:SLOTS]]
    run_and_end(heard.bells[0])
    dispatcher._round(woken(tenant))
    assert [bell.task_id for bell in heard.bells] == [task.pk for task in tasks]


def test_only_a_round_that_sends_nothing_is_followed_by_a_rest(
    tenant: Tenant, dispatcher: Dispatcher, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slot that becomes free waits for nobody; who submits to full queues keeps no processor busy."""
    clock = iter(range(100))
    monkeypatch.setattr(loop.time, "process_time", lambda: float(next(clock)))
    monkeypatch.setattr(dispatcher, "_wait", lambda: woken(tenant))
    for _ in range(SLOTS):
        submitted(tenant)
        dispatcher._step()
        assert dispatcher._rests_until <= time.monotonic()
    submitted(tenant)
    dispatcher._step()
    assert len(heard.bells) == SLOTS
    assert 0 < dispatcher._rests_until - time.monotonic() <= loop.LONGEST_REST_SECONDS
    run_and_end(heard.bells[0])
    dispatcher._step()
    assert len(heard.bells) == SLOTS + 1
    assert dispatcher._rests_until <= time.monotonic()


def test_nothing_but_a_wake_up_costs_a_round_hardly_anything(
    tenant: Tenant, dispatcher: Dispatcher
) -> None:
    dispatcher._round(set())
    with CaptureQueriesContext(connection) as asked:
        dispatcher._round(set())
    assert len(asked) == 0


def test_a_limit_that_was_lowered_holds_although_nobody_told_the_dispatcher(
    tenant: Tenant, dispatcher: Dispatcher, heard: Heard
) -> None:
    Limit.objects.create(tenant=tenant, queue="", running=0)
    submitted(tenant)
    dispatcher._round(woken(tenant))
    # What it had decided was void, and it looked at once.
    assert not Inflight.objects.exists()
    assert heard.bells == []
    Limit.objects.filter(tenant=tenant).update(running=1)
    dispatcher._round({"*"})
    assert len(heard.bells) == 1


def test_a_run_too_short_to_be_seen_pays_for_little_and_teaches_nothing(
    tenant: Tenant, dispatcher: Dispatcher, heard: Heard
) -> None:
    submitted(tenant)
    dispatcher._round(woken(tenant))
    (lane,) = dispatcher._picture.queues["normal"].lanes()
    charged = lane.vtime
    assert charged == pytest.approx(1.0)
    run_and_end(heard.bells[0])
    dispatcher._round(woken(tenant))
    assert lane.vtime < 0.9
    type_id = TaskType.objects.get(name="test.dummy").pk
    assert dispatcher._picture.tenants.seconds(type_id) == DEFAULT_SECONDS


def test_a_new_worker_is_used_as_soon_as_it_says_so(
    tenant: Tenant, dispatcher: Dispatcher, heard: Heard
) -> None:
    tasks = [submitted(tenant) for _ in range(SLOTS + 1)]
    dispatcher._round(woken(tenant))
    assert len(heard.bells) == SLOTS
    Worker.objects.filter(queue="normal").update(slots=SLOTS + 1, seen_at=Now())
    dispatcher._round({"*:0"})
    assert len(heard.bells) == len(tasks)


def test_tokens_of_one_batch_differ_and_say_nothing_of_the_task(
    tenant: Tenant, dispatcher: Dispatcher, heard: Heard
) -> None:
    submitted(tenant)
    submitted(tenant)
    dispatcher._round(woken(tenant))
    first, second = heard.bells
    assert len({first.token, second.token}) == 2
    assert all(len(bell.token) == 43 and bell.token.isascii() for bell in heard.bells)
    # The same task again, by another statement: the secret was another one.
    row = Inflight.objects.get(pk=first.task_id)
    Inflight.objects.all().delete()
    columns = ("task_id", "queue", "tenant_id", "rank", "ordinal", "epoch", "type_id")
    Ready.objects.create(**{column: getattr(row, column) for column in columns})
    leader = Leader.objects.get(name="dispatcher").epoch
    candidates = store.heads("normal", {tenant.pk: FRONT}, 1)[tenant.pk]
    (again,) = store.dispatch(leader, store.limits_revision(), candidates)
    assert (again.task_id, again.token != first.token) == (first.task_id, True)


def test_only_the_dispatch_itself_does_not_wait_for_the_disk(
    transactional_db: None, tenant: Tenant, dispatcher: Dispatcher, heard: Heard
) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET synchronous_commit TO on")
        submitted(tenant)
        dispatcher._round(woken(tenant))
        assert len(heard.bells) == 1
        cursor.execute("SHOW synchronous_commit")
        assert cursor.fetchone() == ("on",)


def test_a_lane_that_has_more_tasks_than_are_read_ahead_fills_all_slots_in_one_batch(
    tenant: Tenant, dispatcher: Dispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = submitted(tenant)
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO ready (task_id, queue, tenant_id, rank, ordinal, epoch, type_id, preemptible)"
            " SELECT gen_random_uuid(), queue, tenant_id, rank, ordinal + n, epoch, type_id, preemptible"
            " FROM ready, generate_series(1, %s) n",
            [2 * MAX_DEPTH],
        )
    Worker.objects.filter(queue="normal").update(slots=2 * MAX_DEPTH)
    batches: list[list[Candidate]] = []
    dispatch = store.dispatch
    monkeypatch.setattr(store, "dispatch", lambda *args: batches.append(args[2]) or dispatch(*args))
    dispatcher._pace = Pace(loop.CHORES)
    dispatcher._round({"*"})
    (batch,) = batches
    assert [each.ordinal for each in batch] == [first.ordinal + n for n in range(2 * MAX_DEPTH)]
    assert Inflight.objects.count() == 2 * MAX_DEPTH


@pytest.mark.parametrize("key", ["", "deploy"])
def test_an_end_has_no_lane_read_again_and_lets_in_who_waits_for_its_key(
    transactional_db: None,
    tenant: Tenant,
    dispatcher: Dispatcher,
    heard: Heard,
    monkeypatch: pytest.MonkeyPatch,
    key: str,
) -> None:
    options = {"key": key, "key_policy": "queue"} if key else {}
    Worker.objects.filter(queue="normal").update(slots=1)
    tasks = [submitted(tenant, **options) for _ in range(2)]
    dispatcher._pace = Pace(loop.CHORES)
    dispatcher._round({"*"})
    dispatcher._listen(0.0, gather=True)
    dispatcher._pace = Pace({name: Chore(3600.0) for name in loop.CHORES})
    dispatcher._round(set())
    read, let_in, heads = [], loop.keys.let_in, store.heads
    monkeypatch.setattr(store, "heads", lambda *args: read.append("lane") or heads(*args))
    monkeypatch.setattr(loop.keys, "let_in", lambda *args: read.append("keys") or let_in(*args))
    run_and_end(heard.bells[0])
    dispatcher._round(dispatcher._listen(5.0))
    assert [bell.task_id for bell in heard.bells] == [task.pk for task in tasks]
    assert read == (["keys", "lane"] if key else [])
