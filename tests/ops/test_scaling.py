"""What a manager does with the rule: its share of the demand, its pace, what it leaves alone."""

from __future__ import annotations

import json
import time
import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ops.pools import scaling as module
from ops.pools.scaling import STALE_SECONDS, Scaling, Seen, Sizes
from ops.pools.workers import ID_VARIABLE, WorkerPlan
from ops.supervision.programs import Program, Watched
from switchyard.bounds import Bounds
from tasks.selectors.pools import Demand


class Machine:
    """A machine whose worker processes are only names; it stands in for the watch."""

    def __init__(self, folder: Path, *, cores: int = 2, capacity: int = 20, **bounds: Bounds) -> None:
        self.folder = folder
        self.programs: dict[str, Watched] = {}
        self.plans: dict[str, WorkerPlan] = {}
        self.left: list[str] = []
        self.scaling = Scaling(self.plans, self.start, Sizes(bounds, capacity, cores, 60))

    def start(self, plan: WorkerPlan) -> Watched:
        """Start a worker, which is not up yet."""
        program = Program(
            name=plan.name,
            argv=(),
            environment={},
            directory=self.folder,
            log=None,
            heartbeat=self.folder / plan.name,
        )
        process: Any = SimpleNamespace(pid=100 + len(self.programs))
        watched = Watched(program, process, time.monotonic())
        watched.fresh = {ID_VARIABLE: str(uuid.uuid4())}
        self.programs[plan.name] = watched
        return watched

    def beat(self, *names: str, busy: int = 0) -> None:
        """Let workers be up."""
        for name in names:
            told = {"pid": self.programs[name].pid, "busy": busy}
            (self.folder / name).write_text(json.dumps(told))

    def let_go(self, name: str) -> None:
        """Let a worker drain."""
        self.left.append(name)
        self.programs[name].stopping = True

    def turn(self, seen: Seen | None, rolling: tuple[str, str] | None = None) -> dict[str, int]:
        """Take a turn; return the targets."""
        self.scaling.turn(self, seen, rolling)  # type: ignore[arg-type]
        return {report.queue: report.target for report in self.scaling.reports}


def demand(queue: str, waiting: int, *, machines: int = 1, dispatched: int = 0) -> Seen:
    """A queue with so many tasks that have waited a while."""
    return Seen({queue: Demand(queue, waiting, 30.0, dispatched, 0, 0, machines)})


def test_each_of_several_machines_takes_its_share(tmp_path: Path) -> None:
    for machines, target in ((1, 7), (2, 4), (3, 3)):
        machine = Machine(tmp_path, batch=Bounds(0, 8))
        assert machine.turn(demand("batch", 7, machines=machines)) == {"batch": target}


def test_workers_start_one_after_another_and_on_larger_machines_more_at_once(tmp_path: Path) -> None:
    small, large = (Machine(tmp_path, cores=cores, batch=Bounds(0, 8)) for cores in (2, 6))
    for _ in range(2):
        small.turn(demand("batch", 4))
        large.turn(demand("batch", 4))
    assert sorted(small.programs) == ["batch-1"]
    assert sorted(large.programs) == ["batch-1", "batch-2", "batch-3"]
    small.beat("batch-1")
    small.turn(demand("batch", 4))
    assert sorted(small.programs) == ["batch-1", "batch-2"]


def test_a_start_that_takes_long_does_not_hold_the_next_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "START_APART_SECONDS", 0.0)
    machine = Machine(tmp_path, batch=Bounds(0, 8))
    for _ in range(3):
        machine.turn(demand("batch", 2))
    assert sorted(machine.programs) == ["batch-1", "batch-2"]


def test_nothing_changes_by_what_was_seen_long_ago(tmp_path: Path) -> None:
    machine = Machine(tmp_path, batch=Bounds(0, 8))
    old = Seen(demand("batch", 3).demands, at=time.monotonic() - STALE_SECONDS - 1)
    assert machine.turn(old) == {}
    assert machine.programs == {}


def test_before_anything_is_seen_the_setting_holds_and_then_what_was_scaled(tmp_path: Path) -> None:
    machine = Machine(tmp_path, critical=Bounds(2, 2), batch=Bounds(1, 1))
    assert machine.turn(None) == {"critical": 2, "batch": 1}
    assert machine.turn(Seen(scaled={"batch": Bounds(0, 0), "normal": Bounds(3, 3)})) == {
        "critical": 2,
        "batch": 0,
    }


def test_a_new_worker_has_a_name_that_none_has_that_still_drains(tmp_path: Path) -> None:
    machine = Machine(tmp_path, batch=Bounds(0, 8))
    machine.turn(demand("batch", 1))
    machine.beat("batch-1", busy=1)
    machine.turn(Seen(scaled={"batch": Bounds(0, 0)}))
    assert machine.left == ["batch-1"]
    machine.turn(demand("batch", 1))
    assert sorted(machine.programs) == ["batch-1", "batch-2"]
    del machine.programs["batch-1"], machine.plans["batch-1"]
    machine.beat("batch-2")
    machine.turn(demand("batch", 2))
    assert sorted(machine.programs) == ["batch-1", "batch-2"]


def test_a_worker_that_is_being_replaced_counts_once_and_its_successor_stays(tmp_path: Path) -> None:
    machine = Machine(tmp_path, normal=Bounds(2, 2))
    machine.turn(Seen())
    machine.beat("normal-1")
    successor = WorkerPlan("normal", 1, 2, generation=2)
    machine.plans[successor.name] = successor
    machine.start(successor)
    machine.beat(successor.name)
    pair = ("normal-1", "normal-1.2")
    machine.turn(Seen(), pair)
    machine.turn(Seen(scaled={"normal": Bounds(0, 0)}), pair)
    assert machine.left == []
    assert len(machine.programs) == 2
    machine.turn(Seen(), None)
    assert machine.left != [], "two of two slots are too many once nothing is replaced"


def test_what_drains_counts_against_the_capacity(tmp_path: Path) -> None:
    machine = Machine(tmp_path, cores=100, capacity=4, batch=Bounds(0, 4))
    machine.turn(demand("batch", 4))
    machine.beat(*machine.programs, busy=1)
    machine.turn(Seen(scaled={"batch": Bounds(0, 0)}))
    assert len(machine.left) == 4
    machine.turn(demand("batch", 4))
    assert len(machine.programs) == 4, "there is no room until one of them has ended"
    machine.beat("batch-1", busy=0)
    machine.turn(demand("batch", 4))
    assert len(machine.programs) == 5
