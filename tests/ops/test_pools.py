"""What a pool manager tells of its workers and pools, and what counts as one of our leftovers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db.models.functions import Now
from uuid_utils.compat import uuid7

from ops.pools import housekeeping
from ops.pools.housekeeping import Housekeeping, attempt_of
from ops.pools.machine import this_machine
from ops.pools.records import Machine, Records
from ops.pools.workers import ID_VARIABLE, Pulse, WorkerPlan, pulse, worker_program
from ops.supervision.programs import Watched
from switchyard.bounds import Bounds
from tasks import aside
from tasks.clock import database_now
from tasks.models import PoolBounds, PoolMachine, Run, Task, TaskType, Worker
from tasks.services.pools import PoolReport
from tenants.models import Tenant
from tests.tasks.api.work import WORKER, publish_types, running, start_platform, submitted
from tests.tasks.refusing import Refuse, forgive, refuse
from tests.tenants.callers import the_trail_may_be_emptied_between_tests
from workers.publishing import described_types
from workers.sandbox import SandboxError
from workers.sandbox.workspace import id_of_no_task, is_of_no_task, make_workspace

__all__ = ["refuse", "the_trail_may_be_emptied_between_tests"]


@pytest.fixture
def tenant(transactional_db: None) -> Tenant:
    """A tenant whose tasks could run."""
    publish_types()
    start_platform()
    return Tenant.objects.create(slug="acme", name="Acme")


def a_program(tmp_path: Path) -> Any:
    """The program of a worker with two slots."""
    return worker_program(
        WorkerPlan("critical", 1, 2),
        database_url="postgresql:///none",
        services=[("db.internal", 5432), ("fd00::5", 6379)],
        announcer=None,
        host="here",
        isolation="full",
        folder=tmp_path,
        logs=None,
        directory=tmp_path,
        stop_seconds=80,
    )


def test_every_start_of_a_worker_has_an_id_of_its_own(tmp_path: Path) -> None:
    program = a_program(tmp_path)
    assert program.fresh()[ID_VARIABLE] != program.fresh()[ID_VARIABLE]
    assert program.environment["SWITCHYARD_ROLE"] == "worker"
    assert program.environment["SWITCHYARD_ISOLATION"] == "full"
    assert program.environment["SWITCHYARD_EGRESS_DENY"] == "db.internal:5432,[fd00::5]:6379"
    assert program.grace == 80


def test_a_predecessors_heartbeat_is_not_believed(tmp_path: Path) -> None:
    what = WorkerPlan("critical", 1, 2)
    watched = Watched(a_program(tmp_path))
    watched.fresh = {ID_VARIABLE: str(uuid.uuid4())}
    watched.process = subprocess.Popen(["sleep", "60"])
    try:
        assert pulse(what, watched) is None
        heartbeat = tmp_path / "critical-1"
        heartbeat.write_text(json.dumps({"pid": watched.pid + 1, "busy": 1}))
        assert pulse(what, watched) is None
        heartbeat.write_text("{")
        assert pulse(what, watched) is None
        heartbeat.write_text(json.dumps({"pid": watched.pid, "busy": 1, "draining_since": None}))
        found = pulse(what, watched)
        assert found is not None
        assert (found.busy, found.draining) == (1, False)
        heartbeat.write_text("")
        found = pulse(what, watched)
        assert found is not None, "it lives, and its disk is full"
        assert (found.pid, found.busy, found.draining) == (watched.pid, 0, False)
    finally:
        watched.process.kill()
        watched.process.wait()


def test_a_machine_below_the_required_isolation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="below SWITCHYARD_ISOLATION_MINIMUM"):
        this_machine(isolation="process", minimum="full", workspaces=tmp_path)


def test_names_of_attempts_are_read() -> None:
    task = uuid.uuid4()
    assert attempt_of(f"{task}-3") == (task, 3)
    assert attempt_of(f"{task}:12") == (task, 12)
    for other in ("lost+found", f"{task}", f"{task}_3", f"{task}-x", "x" * 40):
        assert attempt_of(other) is None


@pytest.mark.django_db
def test_what_is_not_known_to_be_ours_and_over_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeping, "PATIENCE_SECONDS", 0.0)
    strange = make_workspace(tmp_path, f"{uuid.uuid4()}-1")
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", "import time; time.sleep(60)"],
        env={"SWITCHYARD_RUN": f"{uuid.uuid4()}:1"},
    )
    try:
        Housekeeping(tmp_path)()
        assert process.poll() is None
        assert strange.is_dir()
    finally:
        process.kill()
        process.wait()


@pytest.mark.django_db
def test_leftovers_of_an_attempt_that_is_over_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeping, "PATIENCE_SECONDS", 0.0)
    task = uuid.uuid4()
    monkeypatch.setattr(Housekeeping, "_over", lambda _self, found: found & {(task, 2)})
    workspace = make_workspace(tmp_path, f"{task}-2")
    (workspace / "work" / "file").write_text("x")
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", "import time; time.sleep(60)"],
        env={"SWITCHYARD_RUN": f"{task}:2"},
    )
    try:
        Housekeeping(tmp_path)()
        assert process.wait(10) == -9
        assert not os.path.lexists(workspace)
    finally:
        process.kill()


def test_what_a_worker_left_that_was_killed_in_its_rehearsal_is_removed(
    transactional_db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not is_of_no_task(uuid7())
    left = make_workspace(tmp_path, f"{id_of_no_task()}-1")
    sweep = Housekeeping(tmp_path)
    sweep()
    assert left.exists(), "a rehearsal may still go on"
    monkeypatch.setattr(housekeeping, "PATIENCE_SECONDS", 0.0)
    sweep()
    assert not left.exists()


def a_pulse(*dead: tuple[int, int, int]) -> Pulse:
    """The pulse of the worker that `running` claims tasks for."""
    return Pulse(WORKER, WorkerPlan("normal", 1, 2), 100, len(dead), False, dead)


@pytest.fixture
def records(tenant: Tenant, tmp_path: Path) -> Records:
    """Records of a machine whose worker is known; written by hand, without the thread."""
    types = described_types()
    found = Records(Machine("here", "full", "1"), types, Housekeeping(tmp_path))
    found.now([a_pulse()], clean=True)
    found.write()
    return found


def test_the_runs_of_a_dead_worker_are_given_up_at_once_and_are_nobodys_fault(
    tenant: Tenant, records: Records
) -> None:
    task = submitted(tenant)
    running(task)
    records.now([], clean=True)
    records.write()
    task.refresh_from_db()
    assert (task.status, task.losses, task.crashes) == ("queued", 1, 0)


def test_nothing_is_given_up_while_something_of_it_lives(tenant: Tenant, records: Records) -> None:
    task = submitted(tenant)
    running(task)
    records.now([], clean=False)
    records.write()
    task.refresh_from_db()
    assert task.status == "running"
    records.now([], clean=True)
    records.write()
    task.refresh_from_db()
    assert task.status == "queued"


def test_the_run_of_a_killed_supervisor_is_given_up_and_two_such_are_poison(
    tenant: Tenant, records: Records
) -> None:
    poison, other = submitted(tenant), submitted(tenant)
    running(poison)  # by process 4711
    Run.objects.filter(task=poison).update(pid=4712)
    running(other)
    for number, status in ((1, "queued"), (2, "failed")):
        records.now([a_pulse((number, 4712, -9))], clean=True)
        records.write()
        records.write()  # the same death counts once
        poison.refresh_from_db()
        other.refresh_from_db()
        assert (poison.status, poison.crashes, other.status) == (status, number, "running")
        if number == 1:
            running(poison)
            Run.objects.filter(task=poison, status="running").update(pid=4712)
    assert poison.status_reason == "poison"


def test_a_supervisor_that_ended_itself_without_its_lease_makes_no_poison(
    tenant: Tenant, records: Records
) -> None:
    task = submitted(tenant)
    running(task)
    records.now([a_pulse((1, 4711, 75))], clean=True)
    records.write()
    task.refresh_from_db()
    assert (task.status, task.losses, task.crashes) == ("queued", 1, 0)


def test_a_run_that_cannot_be_given_up_keeps_no_worker_from_being_seen(
    tenant: Tenant, records: Records, refuse: Refuse, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good, other = (submitted(tenant) for _ in range(3))
    for task, pid in ((bad, 4711), (good, 4712), (other, 4713)):
        running(task)
        Run.objects.filter(task=task).update(pid=pid)
    refuse("task", "id", bad)
    Worker.objects.update(seen_at=Now() - timedelta(minutes=1))
    records.now([a_pulse((1, 4711, -9), (2, 4712, -9))], clean=True)
    records.write()
    status = dict(Task.objects.values_list("pk", "status"))
    assert (status[bad.pk], status[good.pk], status[other.pk]) == ("running", "queued", "running")
    assert Worker.objects.get(pk=WORKER).seen_at > database_now() - timedelta(seconds=30)
    # The whole worker dies: what can be given up is, and the rest as soon as that is possible.
    records.now([], clean=True)
    records.write()
    other.refresh_from_db()
    assert other.status == "queued"
    forgive()
    monkeypatch.setattr(records._not_lost, "_clock", lambda: time.monotonic() + aside.SECONDS)
    records.write()
    bad.refresh_from_db()
    assert (bad.status, bad.losses) == ("queued", 1)


def test_a_worker_that_drained_is_gone_and_not_lost(tenant: Tenant, records: Records) -> None:
    records.now([replace(a_pulse(), draining=True)], clean=True)
    records.write()
    records.now([], clean=True)
    records.write()
    assert Worker.objects.get(pk=WORKER).status == "gone"


def test_a_manager_tells_what_it_makes_of_its_pools_and_hears_what_there_is_to_do(
    tenant: Tenant, records: Records
) -> None:
    records.pools([PoolReport("batch", Bounds(0, 4), 1, "why")], capacity=6, capacity_set=True)
    PoolBounds.objects.create(queue="batch", least=0, most=3, by="test")
    running(submitted(tenant))
    submitted(tenant, queue="batch")
    records.write()
    row = PoolMachine.objects.get()
    assert (row.machine, row.queue, row.least, row.most, row.target) == ("here", "batch", 0, 4, 1)
    assert (row.capacity, row.capacity_set, row.why) == (6, True, "why")
    assert row.types["shell.command"] == 1
    seen = records.seen()
    assert seen is not None
    assert seen.scaled == {"batch": Bounds(0, 3)}
    assert seen.running == {WORKER: 1}
    assert (seen.demands["batch"].waiting, seen.demands["normal"].running) == (1, 1)


def test_a_manager_that_ends_serves_nothing_any_more(tenant: Tenant, tmp_path: Path) -> None:
    ending = Records(Machine("here", "full", "1"), described_types(), Housekeeping(tmp_path))
    for queue in ("normal", "batch"):
        PoolMachine.objects.create(
            machine="here" if queue == "batch" else "there",
            queue=queue,
            least=0,
            most=4,
            target=0,
            why="",
            capacity=4,
        )
    ending.pools([PoolReport("batch", Bounds(0, 4), 0, "")], capacity=4, capacity_set=False)
    ending.now([], draining=True, clean=True)
    ending._finished = True
    ending.run()
    assert [row.machine for row in PoolMachine.objects.all()] == ["there"]


def test_a_planned_stop_drops_what_waits_where_its_type_says_so_and_a_death_does_not(
    tenant: Tenant, records: Records
) -> None:
    TaskType.objects.filter(name="test.dummy").update(on_shutdown="drop")
    Worker.objects.update(status="gone")
    task = submitted(tenant)
    records.now([a_pulse()], clean=True)
    records.write()
    records.now([], clean=True)
    records.write()
    task.refresh_from_db()
    assert task.status == "queued"
    records.start()
    records.now([], draining=True, clean=True)
    records.finish(seconds=20)
    task.refresh_from_db()
    assert (task.status, task.status_reason) == ("dropped", "shutdown")
