"""``/tasks/{id}/wait``."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx2
import pytest
from django.db import connection

from live.database import THREADS
from tasks.models import Task
from tasks.services.submit import submit
from tasks.submission import Submission
from tenants.authentication import actor_of_token
from tests.conftest import Eventually
from tests.live.scene import Job, Web, submitted, token_of, web_process
from tests.tenants.callers import World

WAITERS = 40
SPARE = 4
"""Connections that the pool keeps open without use."""


def wait(web: Web, job: Job, token: str, query: str = "") -> httpx2.Response:
    return httpx2.get(
        f"{web.url}/api/v1/tenants/acme/tasks/{job.id}/wait{query}",
        headers={"Authorization": f"Bearer {token}"},
        trust_env=False,
        timeout=150,
    )


def test_wait_returns_as_soon_as_the_task_has_ended(web: Web, lasting_world: World, token: str) -> None:
    job = submitted(lasting_world.acme).run()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(wait, web, job, token)
        assert not answer.done()
        job.complete()
        ended = time.monotonic()
        assert answer.result(10).json()["status"] == "completed"
        assert time.monotonic() - ended < 1


def test_wait_returns_the_task_as_it_is_when_the_time_is_up(
    web: Web, lasting_world: World, token: str
) -> None:
    job = submitted(lasting_world.acme).run()
    began = time.monotonic()
    answer = wait(web, job, token, "?timeout=0.5")
    assert answer.status_code == 200
    assert answer.json()["status"] == "running"
    assert 0.4 < time.monotonic() - began < 3
    assert wait(web, job, token, "?timeout=0").json()["status"] == "running"


def test_waiting_to_the_end_consumes_only_the_waiter_s_own_task(
    web: Web, lasting_world: World, token: str
) -> None:
    job = submitted(lasting_world.acme).run()
    job.complete()
    assert wait(web, job, token).json()["consumed"] is False
    row, own = token_of(lasting_world.acme)
    mine = Job(submit(lasting_world.acme, actor_of_token(row), Submission(type="live.test"))).run()
    assert wait(web, mine, own, "?timeout=0").json()["consumed"] is False
    mine.complete()
    assert wait(web, mine, own).json()["consumed"] is True
    assert Task.objects.get(pk=job.id).consumed_at is None


@pytest.mark.parametrize("timeout", ["-1", "301", "x", "", "1e2", "inf"])
def test_a_wrong_timeout_is_400(web: Web, lasting_world: World, token: str, timeout: str) -> None:
    job = submitted(lasting_world.acme)
    answer = wait(web, job, token, f"?timeout={timeout}")
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["pointer"] == "query:timeout"


def test_refusals_are_those_of_the_api(web: Web, lasting_world: World, token: str) -> None:
    foreign = submitted(lasting_world.other)
    _, narrow = token_of(lasting_world.acme, "kv:read")
    assert wait(web, foreign, token).status_code == 404
    assert wait(web, submitted(lasting_world.acme), narrow).status_code == 403
    assert wait(web, foreign, "nonsense").status_code == 401


def test_many_waiters_share_a_few_database_connections(
    lasting_world: World, token: str, tmp_path: Path, eventually: Eventually
) -> None:
    job = submitted(lasting_world.acme).run()
    before = database_connections()
    with web_process(tmp_path) as web, ThreadPoolExecutor(WAITERS) as pool:
        answers = [pool.submit(wait, web, job, token, "?timeout=120") for _ in range(WAITERS)]
        eventually(lambda: established(web) == WAITERS, seconds=30)
        assert database_connections() - before <= THREADS + SPARE
        assert not any(answer.done() for answer in answers)
        job.complete()
        assert {answer.result(20).json()["status"] for answer in answers} == {"completed"}


def established(web: Web) -> int:
    """Return how many clients the web process serves now (Linux)."""
    inodes = set()
    for name in Path(f"/proc/{web.process.pid}/fd").iterdir():
        with suppress(OSError):
            inodes.add(os.readlink(name))
    rows = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return sum(
        row.split()[1].endswith(f":{web.port:04X}")
        and row.split()[3] == "01"
        and f"socket:[{row.split()[9]}]" in inodes
        for row in rows
    )


def database_connections() -> int:
    """Return how many others are connected to the test database."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        return int(cursor.fetchone()[0])
