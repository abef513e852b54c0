"""A worker that is to drain is replaced first, and then left to finish."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

# In a process of its own: whoever watches becomes the subreaper of all below.
SCRIPT = """
import json, sys, time
from pathlib import Path
from ops.pools.rolling import Rolling
from ops.pools.workers import WorkerPlan
from ops.supervision.programs import Program
from ops.supervision.watch import Watch

folder = Path(sys.argv[1])
WORKER = '''
import pathlib, signal, sys, time
def finish(*_):
    time.sleep(0.4)
    sys.exit(0)
signal.signal(15, finish)
pathlib.Path(sys.argv[1]).touch()
while True:
    time.sleep(60)
'''

def start(plan):
    argv = (sys.executable, "-S", "-c", WORKER, str(folder / plan.name))
    return watch.add(Program(name=plan.name, argv=argv, environment={}, directory=folder, log=None))

def is_up(plan, watched):
    return (folder / plan.name).exists()

def taking():
    return sum(is_up(plans[name], each) and each.alive and not each.stopping
               for name, each in watch.programs.items())

plans = {plan.name: plan for plan in (WorkerPlan("normal", 1, 2), WorkerPlan("normal", 2, 2))}
told = []
with Watch(told.append) as watch:
    for plan in plans.values():
        start(plan)
    watch.until(lambda: taking() == 2, seconds=10)
    rolling = Rolling(plans, start, is_up)
    rolling.ask(json.loads(sys.argv[2]))
    least, most, deadline = 2, 0, time.monotonic() + 20
    wanted = set(json.loads(sys.argv[3]))
    while (set(watch.programs) != wanted or set(plans) != wanted) and time.monotonic() < deadline:
        watch.turn(0.02)
        rolling.turn(watch)
        least, most = min(least, taking()), max(most, len(watch.programs))
    print(json.dumps({"programs": sorted(watch.programs), "plans": sorted(plans), "told": told,
                      "least": least, "most": most}))
    watch.stop()
"""


def roll(tmp_path: Path, asked: list[str], wanted: list[str]) -> dict[str, Any]:
    """Have workers of a pool of two replaced; what was seen until the wanted ones were left."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path), json.dumps(asked), json.dumps(wanted)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_worker_that_drains_has_a_successor_before_it_is_stopped(tmp_path: Path) -> None:
    seen = roll(tmp_path, ["normal-1"], ["normal-1.2", "normal-2"])
    assert seen["programs"] == seen["plans"] == ["normal-1.2", "normal-2"]
    assert (seen["least"], seen["most"]) == (2, 3)
    assert seen["told"] == []


def test_a_rolling_restart_replaces_one_worker_after_another(tmp_path: Path) -> None:
    seen = roll(tmp_path, ["normal-1", "normal-2"], ["normal-1.2", "normal-2.2"])
    assert seen["programs"] == seen["plans"] == ["normal-1.2", "normal-2.2"]
    assert seen["least"] == 2


def test_who_is_not_there_is_not_replaced(tmp_path: Path) -> None:
    seen = roll(tmp_path, ["batch-1"], ["normal-1", "normal-2"])
    assert seen["programs"] == ["normal-1", "normal-2"]
