"""Random work under random faults, then the judge: ``make soak``.

``SOAK_MINUTES`` (default 3) is how long it lasts before the drain, ``SOAK_SEED`` repeats the dice of
an earlier run (they choose the same work and the same faults; what meets what is up to the machine).
Prints numbers and every violation; the exit code is 1 if there was one.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2

from tests.chaos.faults import FAULTS, QUEUES
from tests.chaos.oracle import Register, judge
from tests.chaos.stage import Stage, open_stage
from tests.e2e.work import Json

TENANTS = ("red", "blue")
DRAIN_SECONDS = 240.0
FAULT_EVERY = (0.5, 2.0)
SUBMIT_EVERY = (0.15, 0.8)
LONGEST_LINE = 40
CANCEL_SHARE, RETRY_SHARE = 0.08, 0.03
Dice = random.Random


@dataclass
class Report:
    """What a soak was and what came of it."""

    seed: int
    tasks: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    runs: int = 0
    refused: int = 0
    drain_seconds: float = 0.0
    violations: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Return what is printed."""
        lost = sum("lost" in told and "accepted" in told for told in self.violations)
        doubles = sum("times in" in told for told in self.violations)
        return [
            f"seed {self.seed}",
            f"{self.tasks} tasks in {self.runs} runs: {_told(self.ends)}",
            f"{self.faults.total()} faults: {_told(self.faults)}",
            f"lost {lost}, double ends {doubles}, overlaps refused {self.refused}",
            f"drained in {self.drain_seconds:.1f} s",
            *(f"VIOLATION {told}" for told in self.violations[:50]),
            f"{len(self.violations)} violations",
        ]


def soak(stage: Stage, *, seed: int, seconds: float) -> Report:
    """Submit random work under random faults for so long, drain, and judge."""
    report = Report(seed)
    dice = random.Random(seed)
    over = threading.Event()
    clients = [stage.platform.client(), *(_tenant(stage, slug) for slug in TENANTS)]
    workers = [
        threading.Thread(target=_work_for_ever, args=(stage, client, Dice(dice.random()), over, report))
        for client in clients
    ]
    trouble = threading.Thread(target=_fail_for_ever, args=(stage, Dice(dice.random()), over, report))
    for thread in (*workers, trouble):
        thread.start()
    over.wait(seconds)
    over.set()
    for thread in (trouble, *workers):
        thread.join()
    stage.undo()
    try:
        report.drain_seconds = stage.drain(seconds=DRAIN_SECONDS)
    except AssertionError as problem:
        report.violations.append(str(problem))
    for client in clients:
        client.close()
    register = Register.read(stage.servers.database_url)
    report.violations += judge(register, stage.ledger)
    report.violations += _after(stage.left_behind, 20)
    report.tasks = len(stage.ledger.accepted)
    report.ends.update(task["status"] for task in register.tasks.values())
    report.runs = sum(map(len, register.runs.values()))
    report.refused = register.refusals()
    return report


def _after(left: Callable[[], list[str]], seconds: float) -> list[str]:
    """Return what is still left behind after so many seconds."""
    deadline = time.monotonic() + seconds
    while (found := left()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return [f"left behind: {each}" for each in found]


def _tenant(stage: Stage, slug: str) -> httpx2.Client:
    """Make a tenant and return a client with a token of its own."""
    with stage.platform.operator() as operator:
        made = operator.post("operator/tenants", json={"slug": slug, "name": slug})
        assert made.status_code == 201, made.text
        token = operator.post(f"tenants/{slug}/tokens", json={"name": "soak", "scopes": ["*"]})
        assert token.status_code == 201, token.text
    return httpx2.Client(
        base_url=f"{stage.platform.url}/api/v1/tenants/{slug}/",
        headers={"Authorization": f"Bearer {token.json()['token']}"},
        timeout=20,
        trust_env=False,
    )


def _work_for_ever(
    stage: Stage, client: httpx2.Client, dice: Dice, over: threading.Event, report: Report
) -> None:
    """Be a client; an answer that no client should get is a violation."""
    try:
        _submit_for_ever(stage, client, dice, over)
    except Exception as error:
        report.violations.append(f"a client gave up: {type(error).__name__} {error}"[:500])


def _submit_for_ever(stage: Stage, client: httpx2.Client, dice: Dice, over: threading.Event) -> None:
    mine: list[Json] = []
    number = 0
    while not over.wait(dice.uniform(*SUBMIT_EVERY)):
        if not _has_room(client):
            continue
        number += 1
        body = _work(dice, mine)
        task = stage.submit(f"soak-{id(client)}-{number}", client=client, **body)
        mine.append(task)
        if dice.random() < CANCEL_SHARE:
            _cancel(stage, client, dice.choice(mine))
        if dice.random() < RETRY_SHARE:
            _retry(client, dice.choice(mine))


def _has_room(client: httpx2.Client) -> bool:
    """Whether the tenant's line is short; work that only piles up would be drained for ever."""
    try:
        answer = client.get("usage")
    except httpx2.HTTPError:
        return False
    return answer.status_code == 200 and int(answer.json()["queued"]) < LONGEST_LINE


def _work(dice: Dice, mine: list[Json]) -> dict[str, Any]:
    """Return the body of a random submission."""
    params = dice.choice(
        [
            {"stdout": "plain"},
            {"seconds": dice.uniform(0.1, 1.5), "stdout": "slow"},
            {"seconds": dice.uniform(0.5, 3), "steps": 5, "checkpoint": True},
            {"seconds": 0.3, "steps": 3, "stdout": "line", "repeat": 200},
            {"fail": "no", "fail_times": 2, "stdout": "tried"},
            {"fail": "never"},
            {"exit": 3},
            {"signal": "SEGV"},
            {"seconds": 0.2, "spawn_daemon": True},
            {"seconds": 3, "ignore_cancel": True},
        ]
    )
    body: dict[str, Any] = {
        "params": params,
        "queue": dice.choice(QUEUES),
        "priority": dice.choice([0, 0, 0, 5, -5]),
        "idempotent": dice.random() < 0.75,
        "preemptible": dice.random() < 0.5,
        "max_retries": dice.choice([0, 1, 3]),
        "retry": {"delay": 0.2, "factor": 1, "jitter": 0},
    }
    if dice.random() < 0.15 and mine:
        parents = dice.sample(mine, min(len(mine), dice.choice([1, 2])))
        body["depends_on"] = [parent["id"] for parent in parents]
        body["on_parent_failure"] = dice.choice(["cancel", "run"])
    if dice.random() < 0.1:
        body["scheduled_for"] = (datetime.now(UTC) + timedelta(seconds=dice.uniform(1, 4))).isoformat()
    if dice.random() < 0.1:
        body |= {"key": f"key-{dice.randrange(3)}", "key_policy": "queue"}
    if dice.random() < 0.1:
        body["time_limit"] = 1
    return body


def _cancel(stage: Stage, client: httpx2.Client, task: Json) -> None:
    """Cancel; an answer that shows it as cancelled before any attempt is a promise."""
    try:
        answer = client.post(f"tasks/{task['id']}/cancel", json={})
    except httpx2.HTTPError:
        return
    assert answer.status_code in (200, 409, 429, 503), answer.text
    if answer.status_code == 200:
        seen = answer.json()["task"]
        if seen["status"] == "cancelled" and seen["attempt"] == 0:
            stage.ledger.cancelled_waiting.add(task["id"])


def _retry(client: httpx2.Client, task: Json) -> None:
    """Retry by hand what has failed."""
    try:
        if client.get(f"tasks/{task['id']}").json().get("status") == "failed":
            answer = client.post(f"tasks/{task['id']}/retry", json={})
            assert answer.status_code in (200, 409, 429, 503), answer.text
    except (httpx2.HTTPError, ValueError):
        return


def _fail_for_ever(stage: Stage, dice: Dice, over: threading.Event, report: Report) -> None:
    while not over.wait(dice.uniform(*FAULT_EVERY)):
        fault = dice.choices(list(FAULTS), weights=list(FAULTS.values()))[0]
        try:
            fault(stage, dice)
        except Exception as error:
            # Whom the dice chose is gone already, or a server that was just killed refuses us.
            print(f"{fault.__name__}: {type(error).__name__} {error}", file=sys.stderr)
        else:
            report.faults[fault.__name__] += 1


def _told(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counter.items()))


def main() -> int:
    """Run one soak as the environment says."""
    seed = int(os.environ.get("SOAK_SEED") or random.randrange(10**9))
    minutes = float(os.environ.get("SOAK_MINUTES") or 3)
    print(f"soak of {minutes:g} minutes with SOAK_SEED={seed}", flush=True)
    with open_stage() as stage:
        report = soak(stage, seed=seed, seconds=minutes * 60)
    print("\n".join(report.lines()))
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
