"""A supervisor that cannot keep its lease stops in time, writes nothing, and is told of as late."""

from __future__ import annotations

import importlib
import signal
import time

import pytest
from django.db import connection, transaction

from tasks.clock import database_now
from tasks.models import Inflight, Run, Task
from tests.conftest import Eventually
from tests.workers.supervisor.conftest import Bench, Guarded
from workers.sandbox import Level
from workers.supervisor.lease import EXIT_CODE


def below(guarded: Guarded) -> list[int]:
    """The processes of the run, without the supervisor."""
    return [pid for pid in guarded.tree() if pid != guarded.pid]


@pytest.mark.parametrize("seconds", [0.6, 60.0])
def test_a_zombies_late_write_is_refused_recorded_and_changes_nothing(
    level: Level, bench: Bench, eventually: Eventually, seconds: float
) -> None:
    # 0.6 s: it wakes up with a success in its hands. 60 s: its handler still runs.
    params = {"seconds": seconds, "stdout": "from the zombie", "result": {"by": "zombie"}}
    zombie = bench.until_it_runs(bench.start(level, params=params))
    zombie.signal(signal.SIGSTOP)
    task = bench.expire(zombie)
    assert (task.status, task.losses) == ("queued", 1)
    Task.objects.filter(pk=task.pk).update(params={"result": {"by": "second"}, "stdout": "second"})
    second = bench.attempt(task, level)
    assert second.wait() == 0, second.said()
    assert second.task.status == "completed"
    zombie.signal(signal.SIGCONT)
    assert zombie.wait() in (0, EXIT_CODE), zombie.said()
    task = zombie.task
    assert (task.status, task.result) == ("completed", {"by": "second"})
    assert (zombie.run.status, zombie.texts("stdout")) == ("lost", [])
    (refused,) = zombie.events("error")
    assert (refused["code"], refused["epoch"]) == ("late_write_refused", zombie.epoch)
    runs = Run.objects.filter(task=task).order_by("attempt")
    assert [run.status for run in runs] == ["lost", "completed"]
    eventually(lambda: not below(zombie))


def test_a_handler_goes_on_without_the_database_until_shortly_before_its_lease_ends(
    level: Level, bench: Bench, eventually: Eventually
) -> None:
    guarded = bench.until_it_runs(bench.start(level, params={"seconds": 60}))
    with bench.database_away():
        lease = Inflight.objects.get(pk=guarded.task_id).lease_until
        while database_now() < lease and below(guarded):
            alive_at = database_now()
            time.sleep(0.01)
        assert below(guarded) == [], "something lived beyond the lease"
        # Until one fifth of the lease (2 s) before its end, and a little for a busy machine.
        assert (lease - alive_at).total_seconds() < 1.0
        assert guarded.wait() in (0, EXIT_CODE)
    assert guarded.run.status == "running"
    assert bench.expire(guarded).status == "queued"


@pytest.mark.parametrize("said", ["kept", ""])
def test_an_end_that_cannot_be_written_arrives_when_the_database_is_back(
    bench: Bench, said: str
) -> None:
    # With something to store before the end, and with the end alone.
    params = {"seconds": 0.4, "stdout": said, "result": {"n": 1}}
    guarded = bench.until_it_runs(bench.start(params=params))
    with bench.database_away():
        lease = Inflight.objects.get(pk=guarded.task_id).lease_until
        while database_now() <= lease:
            time.sleep(0.05)
        assert not guarded.ended()
    assert guarded.wait() == 0, guarded.said()
    task = guarded.task
    assert (task.status, task.result, task.attempt) == ("completed", {"n": 1}, 1)
    assert guarded.texts("stdout") == ([said] if said else [])
    ends = [event for event in guarded.events("state") if event["status"] == "completed"]
    assert len(ends) == 1
    bench.nothing_is_left(guarded)


def test_a_cut_connection_costs_a_run_nothing(bench: Bench) -> None:
    guarded = bench.until_it_runs(bench.start(params={"seconds": 1.5, "steps": 3, "stdout": "x"}))
    with bench.database_away():
        time.sleep(0.3)
    assert guarded.wait() == 0, guarded.said()
    assert (guarded.task.status, guarded.task.attempt) == ("completed", 1)
    assert [event["percent"] for event in guarded.events("progress")][-1] == 100


def test_a_supervisor_that_hangs_in_a_frozen_database_kills_its_tree_and_ends(
    level: Level, bench: Bench, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = importlib.import_module("workers.supervisor.lease")
    monkeypatch.setattr(lease, "LAST_WORDS_SECONDS", 1.5)
    guarded = bench.until_it_runs(bench.start(level, params={"seconds": 60}))
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("LOCK TABLE inflight IN ACCESS EXCLUSIVE MODE")
        eventually(lambda: not below(guarded), seconds=5)
        assert not guarded.ended(), "the tree died only with its supervisor"
        assert guarded.wait(5) == EXIT_CODE
