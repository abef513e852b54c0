"""How long runs take is learnt from those that ended, kept, and known to the next leader."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.db.models import F
from django.test.utils import CaptureQueriesContext

from tasks.models import Estimate, Inflight, Run, Task, TaskType
from tasks.outcomes import Outcome
from tasks.services.claim import claim
from tasks.services.finish import finish
from tasks.states import RunStatus
from tests.tasks.api.work import WORKER, ended, submitted
from tests.tenants.callers import World
from tests.workers.dispatcher.rounds import dispatcher, go_round
from workers.dispatcher.allowances import DEFAULT_SECONDS, EWMA_SHARE
from workers.dispatcher.lengths import Lengths, known_lengths
from workers.dispatcher.loop import Dispatcher

__all__ = ["dispatcher"]


def lasted(task: Task, seconds: float) -> Task:
    Run.objects.filter(task=task).update(started_at=F("finished_at") - timedelta(seconds=seconds))
    return task


def learn(*tasks: Task) -> None:
    lengths = Lengths()
    for task in tasks:
        lengths.note(task.pk)
    lengths.write()


def known() -> dict[tuple[str, int], float]:
    names = dict(TaskType.objects.values_list("pk", "name"))
    rows = Estimate.objects.values_list("type_id", "tenant_id", "seconds")
    return {(names[type_id], tenant_id): seconds for type_id, tenant_id, seconds in rows}


def test_the_average_of_a_type_and_of_each_tenant_is_learnt(acme: World) -> None:
    learn(
        lasted(ended(submitted(acme.acme)), 10),
        lasted(ended(submitted(acme.acme)), 20),
        lasted(ended(submitted(acme.other)), 60),
        lasted(ended(submitted(acme.acme, "lint.ruff")), 1),
    )
    ours, others = acme.acme.pk, acme.other.pk
    assert known() == pytest.approx(
        {
            ("test.dummy", ours): 15,
            ("test.dummy", others): 60,
            ("test.dummy", 0): 30,
            ("lint.ruff", ours): 1,
            ("lint.ruff", 0): 1,
        }
    )


def test_new_runs_move_the_average_as_much_as_one_after_another_would(acme: World) -> None:
    learn(lasted(ended(submitted(acme.acme)), 10))
    learn(*(lasted(ended(submitted(acme.acme)), 110) for _ in range(3)))
    expected = 10.0
    for _ in range(3):
        expected += EWMA_SHARE * (110 - expected)
    assert known()["test.dummy", acme.acme.pk] == pytest.approx(expected)


def test_a_run_that_was_cut_short_teaches_nothing(acme: World) -> None:
    cancelled = lasted(ended(submitted(acme.acme), RunStatus.CANCELLED), 10)
    never = submitted(acme.acme)
    learn(cancelled, never)
    assert known() == {}


def test_nothing_is_asked_where_nothing_has_ended(acme: World) -> None:
    with CaptureQueriesContext(connection) as queries:
        Lengths().write()
    assert len(queries) == 0


def test_a_dispatcher_learns_from_runs_however_short_and_its_successor_knows(
    acme: World, dispatcher: Dispatcher
) -> None:
    task = submitted(acme.acme)
    assert go_round(dispatcher) == {task.pk}
    row = Inflight.objects.get()
    # It begins and ends between two looks of the dispatcher.
    claimed = claim(
        task.pk,
        row.epoch,
        row.token,
        queue=row.queue,
        worker=WORKER,
        machine="m1",
        isolation="process",
        pid=4711,
    )
    assert claimed is not None
    finish(task.pk, claimed.epoch, Outcome(status=RunStatus.COMPLETED))
    lasted(task, 42)
    go_round(dispatcher)
    dispatcher._picture.lengths.write()
    type_id = TaskType.objects.get(name="test.dummy").pk
    assert known_lengths() == {type_id: pytest.approx(42)}
    dispatcher._resign()
    successor = Dispatcher()
    assert successor._take_lead()
    assert successor._picture.tenants.seconds(type_id) == pytest.approx(42)
    assert successor._picture.tenants.seconds(type_id + 1) == DEFAULT_SECONDS
