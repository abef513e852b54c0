"""A PostgreSQL that crashes, freezes, is full, away or cut off, while a whole platform works."""

from __future__ import annotations

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import httpx2
import psycopg
import pytest

from tests.chaos.proxy import Way
from tests.chaos.stage import Stage, can_mount
from tests.chaos.trouble import assert_completed_once, trouble
from tests.conftest import Eventually
from tests.e2e.work import Json

ANSWER_WITHIN = 5.0
LEASE = 3.0


class Probe:
    """A client that asks again and again, and notes every answer and how long it took."""

    def __init__(self, stage: Stage) -> None:
        self.statuses: list[int] = []
        self.longest = 0.0
        self._stage = stage
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> Probe:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        self._thread.join(30)

    def _ask(self) -> None:
        with self._stage.platform.client() as http:
            while not self._over.wait(0.1):
                began = time.monotonic()
                with suppress(httpx2.HTTPError):
                    self.statuses.append(http.get("tasks", params={"limit": 1}).status_code)
                self.longest = max(self.longest, time.monotonic() - began)


def test_a_crash_of_postgresql_costs_a_run_nothing_and_clients_a_503(stage: Stage) -> None:
    tasks = [
        stage.submit(params={"seconds": 3, "steps": 30, "stdout": "once"}, queue=queue, idempotent=False)
        for queue in ("critical", "normal", "batch")
    ]
    for task in tasks:
        stage.work.until(task, "running")
    with Probe(stage) as probe:
        stage.servers.restart_database()
        assert_completed_once(stage, *tasks)
    assert set(probe.statuses) <= {200, 503}
    assert probe.longest < ANSWER_WITHIN


def test_a_killed_backend_costs_a_run_nothing(stage: Stage) -> None:
    task = stage.submit(params={"seconds": 3, "stdout": "once"}, idempotent=False)
    stage.work.until(task, "running")
    backends = stage.servers.backends("worker") or stage.servers.backends("web")
    os.kill(backends[0], signal.SIGKILL)
    assert_completed_once(stage, task)


def test_a_frozen_postgresql_is_503_within_five_seconds_and_thaws_by_itself(
    stage: Stage, eventually: Eventually
) -> None:
    task = stage.submit(params={"seconds": 1}, idempotent=True)
    stage.work.until(task, "running")
    with Probe(stage) as probe, stage.servers.frozen_database():
        began = time.monotonic()
        answer = stage.work.http.post(
            "tasks", json={"type": "test.dummy", "params": {}}, headers={"Idempotency-Key": "frozen"}
        )
        assert time.monotonic() - began < ANSWER_WITHIN
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) >= 1
        ready = httpx2.get(f"{stage.platform.url}/health/ready", timeout=10, trust_env=False)
        assert (ready.status_code, ready.json()["missing"]) == (503, ["database"])
    again = stage.submit("frozen", params={})
    assert stage.submit("frozen", params={})["id"] == again["id"]
    assert probe.longest < ANSWER_WITHIN
    assert_completed_once(stage, again)
    assert stage.work.end_of(task)["status"] == "completed"


def test_without_postgresql_for_longer_than_the_lease_no_success_is_claimed(stage: Stage) -> None:
    once = stage.submit(params={"seconds": 20}, idempotent=False)
    again = stage.submit(params={"seconds": 1}, queue="batch")
    stage.work.until(once, "running")
    stage.work.until(again, "running", "completed")
    with trouble(stage.database, Way.CLOSED):
        deadline = time.monotonic() + 2 * LEASE
        while time.monotonic() < deadline:
            time.sleep(0.2)
    done = stage.work.end_of(once)
    assert (done["status"], done["status_reason"], len(done["runs"])) == ("failed", "lost", 1)
    assert stage.work.end_of(again)["status"] == "completed"


@pytest.mark.parametrize("cut", ["cut_after_commit", "cut_before_commit"])
def test_connections_cut_around_a_commit_of_workers_lose_and_double_nothing(
    stage: Stage, cut: str
) -> None:
    lines = [f"line {number}" for number in range(20)]
    tasks = []
    for _ in range(6):
        sprung = stage.database.sprung
        getattr(stage.database, cut)("worker")
        tasks.append(stage.submit(params={"steps": 5, "seconds": 0.5, "stdout": "\n".join(lines)}))
        stage.work.end_of(tasks[-1])
        assert stage.database.sprung == sprung + 1, "no COMMIT was cut"
    for task in tasks:
        done = stage.work.task(task)
        assert done["status"] == "completed"
        good = next(run["attempt"] for run in done["runs"] if run["status"] == "completed")
        assert stage.work.texts(done, run=good, stream="stdout") == lines


@pytest.mark.skipif(not can_mount(), reason="only root can give the servers a disk of their own")
def test_a_full_disk_of_postgresql_is_503_and_loses_nothing(
    stage: Stage, eventually: Eventually
) -> None:
    running = stage.submit(params={"seconds": 2, "stdout": "said"})
    stage.work.until(running, "running")
    seen: set[int] = set()
    with stage.platform.client() as http, stage.servers.full_disk():
        deadline = time.monotonic() + 20
        while 503 not in seen and time.monotonic() < deadline:
            body = {"type": "test.dummy", "params": {"stdout": "x" * 100_000}}
            began = time.monotonic()
            with suppress(httpx2.HTTPError):
                answer = http.post("tasks", json=body)
                seen.add(answer.status_code)
                if answer.status_code == 201:
                    stage.ledger.accept(answer.json())
            assert time.monotonic() - began < ANSWER_WITHIN
    assert 503 in seen
    assert seen <= {201, 503}
    after = stage.submit(params={})
    for task in (running, after):
        assert stage.work.end_of(task)["status"] == "completed"


class Hogs:
    """A client that takes every connection of PostgreSQL that is free, and each that becomes free."""

    def __init__(self, stage: Stage) -> None:
        self.taken: list[psycopg.Connection[tuple[object, ...]]] = []
        self.refusals = 0
        self._url = stage.servers.database_url
        # What it asks itself, it asks on a connection that it has from the beginning.
        self._own = psycopg.connect(self._url, autocommit=True)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._take)

    def __enter__(self) -> Hogs:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        self._thread.join(30)
        for connection in (self._own, *self.taken):
            connection.close()

    def _take(self) -> None:
        while not self._over.is_set():
            try:
                self.taken.append(psycopg.connect(self._url))
            except psycopg.OperationalError:
                self.refusals += 1
                self._over.wait(0.01)

    def ask(self, query: str, *values: object) -> object:
        """Return the one value that PostgreSQL answers."""
        row = self._own.execute(query, values).fetchone()
        return row and row[0]

    def have_all_of(self, role: str) -> bool:
        """End a role's connections; True once it has none and none is free."""
        refusals = self.refusals
        theirs = self.ask(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = %s",
            f"switchyard-{role}",
        )
        return theirs == 0 and self.refusals > refusals > 0


def test_without_a_free_connection_the_api_answers_503_and_runs_end(
    stage: Stage, eventually: Eventually
) -> None:
    task = stage.submit(params={"seconds": 4, "stdout": "went on"}, idempotent=False)
    child = stage.submit(params={}, idempotent=False, depends_on=[task["id"]])
    stage.work.until(task, "running")
    with Hogs(stage) as hogs:

        def status(task: Json) -> object:
            return hogs.ask("SELECT status FROM task WHERE id = %s", task["id"])

        eventually(lambda: hogs.have_all_of("web"), seconds=30)
        with ThreadPoolExecutor(12) as threads, stage.platform.client() as http:
            answers = list(threads.map(lambda _: http.get("tasks"), range(24)))
            answers.append(http.post("tasks", json={"type": "test.dummy", "params": {}}))
        assert {answer.status_code for answer in answers} == {503}
        assert all(int(answer.headers["Retry-After"]) >= 1 for answer in answers)
        # Workers have the connections that they had, for the next runs too.
        eventually(lambda: (status(task), status(child)) == ("completed",) * 2, seconds=30)
    assert len(hogs.taken) > 100
    assert_completed_once(stage, task, child)


def test_many_requests_at_once_take_no_connection_from_workers(stage: Stage) -> None:
    over = threading.Event()

    def flood(_number: int) -> set[int]:
        seen = set()
        with stage.platform.client() as http:
            while not over.is_set():
                seen.add(http.get("tasks", params={"limit": 1}).status_code)
        return seen

    with ThreadPoolExecutor(20) as threads:
        floods = [threads.submit(flood, number) for number in range(20)]
        try:
            task = stage.submit(params={})
            assert stage.work.end_of(task)["status"] == "completed"
            assert len(stage.servers.backends("web")) <= 8 + 1  # and one that wakes the dispatcher
        finally:
            over.set()
    assert set().union(*(each.result() for each in floods)) <= {200, 429, 503}
