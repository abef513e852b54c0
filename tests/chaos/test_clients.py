"""What clients see: sockets over a killed web process, a missing channel layer, a long backlog."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import psycopg
import pytest
import redis
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from tests.chaos.proxy import Way
from tests.chaos.stage import Stage
from tests.conftest import Eventually
from tests.e2e.work import Json

WATCHERS = 100
CONNECTED = 80
BACKLOG = 1000
LEAST_RUNS = 120
MESSAGES_PER_RUN = 1.2


def follow(
    stage: Stage, task: Json, *, seconds: float, connected: threading.Semaphore | None = None
) -> list[int]:
    """Follow a task by WebSocket to its end, reconnecting with ``after``; return the numbers seen.

    ``connected`` is released once, at the first frame.
    """
    path = f"/ws/v1/tenants/{stage.platform.tenant}/tasks/{task['id']}"
    address = stage.platform.url.replace("http", "ws") + path
    headers = {"Authorization": f"Bearer {stage.platform.credentials['token']}"}
    seen: list[int] = []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(OSError, WebSocketException, TimeoutError):
            after = seen[-1] if seen else 0
            with connect(
                f"{address}?after={after}", additional_headers=headers, proxy=None, close_timeout=1
            ) as socket:
                while True:
                    frame: dict[str, Any] = json.loads(socket.recv(deadline - time.monotonic()))
                    if connected is not None:
                        connected.release()
                        connected = None
                    if frame["kind"] == "end":
                        return seen
                    if frame["kind"] != "snapshot":
                        seen.append(frame["seq"])
        time.sleep(0.2)
    raise AssertionError(f"no end within {seconds} s, but {seen}")


def test_a_hundred_sockets_survive_a_killed_web_process_without_gap_or_double(stage: Stage) -> None:
    task = stage.submit(params={"seconds": 8, "steps": 20}, queue="critical")
    stage.work.until(task, "running")
    with ThreadPoolExecutor(WATCHERS) as threads:
        connected = threading.Semaphore(0)
        watched = [
            threads.submit(follow, stage, task, seconds=60, connected=connected) for _ in range(WATCHERS)
        ]
        deadline = time.monotonic() + 20
        # The others connect to the next process.
        for number in range(CONNECTED):
            left = max(0, deadline - time.monotonic())
            assert connected.acquire(timeout=left), f"{number} of {WATCHERS} have connected"
        assert stage.work.task(task)["status"] == "running"
        stage.platform.signal("web")
        seen = [each.result() for each in watched]
    last = stage.work.task(task)["last_seq"]
    assert [numbers == list(range(1, last + 1)) for numbers in seen] == [True] * WATCHERS


def test_without_the_channel_layer_runs_rest_and_sockets_go_on(
    stage: Stage, eventually: Eventually
) -> None:
    stage.channels.set(Way.CLOSED)
    task = stage.submit(params={"seconds": 1, "steps": 3, "stdout": "heard"})
    seen = follow(stage, task, seconds=30)
    done = stage.work.task(task)
    assert (done["status"], len(done["runs"])) == ("completed", 1)
    assert seen == list(range(1, done["last_seq"] + 1))
    assert stage.work.texts(task, stream="stdout") == ["heard"]
    stage.channels.open()
    rings: Counter[str] = Counter()
    with (
        redis.Redis.from_url(stage.servers.addresses["redis_url_tcp"]) as layer,
        layer.pubsub(ignore_subscribe_messages=True) as ears,
    ):
        ears.psubscribe("*__group__task-*")

        def rung(task: Json, times: int) -> bool:
            while heard := ears.get_message(timeout=0.1):
                rings[heard["channel"].decode().rpartition("-")[2]] += 1
            return rings[task["id"].replace("-", "")] >= times

        # Whoever announces has survived it: the web process for what is submitted and cancelled, the
        # pool manager for what runs.
        rests = stage.submit(params={}, scheduled_for="2030-01-01T00:00:00Z")
        stage.work.post(f"tasks/{rests['id']}/cancel")
        runs = stage.submit(params={"seconds": 2})
        eventually(lambda: rung(rests, 2) and rung(runs, 2), seconds=20)


@pytest.mark.timeout(400)
def test_a_long_backlog_is_not_published_again_and_again(stage: Stage) -> None:
    other_queues = ("critical", "normal")
    keys = [f"backlog-{number}" for number in range(BACKLOG)]
    local = threading.local()

    def submit(key: str) -> Json:
        if not hasattr(local, "client"):
            local.client = stage.platform.client()
        return stage.submit(key, client=local.client, params={}, queue="batch", idempotent=False)

    with stage.servers.broker() as broker:
        pushed = _pushes(broker)
        with ThreadPoolExecutor(6) as threads:
            tasks = list(threads.map(submit, keys))
        deadline = time.monotonic() + 60
        while (runs := _claims(stage, "batch")) < LEAST_RUNS and time.monotonic() < deadline:
            time.sleep(0.2)
        pushes = _pushes(broker) - pushed
        assert broker.llen("batch") <= 4
    assert runs >= LEAST_RUNS
    assert pushes <= MESSAGES_PER_RUN * runs + 4
    answer = stage.work.post("tasks/actions/cancel", filter={"queue": "batch"}, limit=BACKLOG)
    assert answer["changed"] >= len(tasks) - runs - 200
    for queue in other_queues:
        assert stage.work.end_of(stage.submit(params={}, queue=queue))["status"] == "completed"


def test_a_task_that_no_worker_can_run_says_so_until_its_deadline(stage: Stage) -> None:
    with psycopg.connect(stage.servers.database_url) as connection:
        columns = [
            row[0]
            for row in connection.execute(
                "SELECT column_name FROM information_schema.columns"
                " WHERE table_name = 'task_type' AND column_name NOT IN ('id', 'name')"
            )
        ]
        names = ", ".join(columns)
        connection.execute(
            f"INSERT INTO task_type (name, {names})"
            f" SELECT 'future.type', {names} FROM task_type WHERE name = 'test.dummy'"
        )
    answer = stage.work.http.post(
        "tasks", json={"type": "future.type", "params": {}, "queue_timeout": 3}
    )
    assert answer.status_code == 201, answer.text
    task = stage.ledger.accept(answer.json())
    deadline = time.monotonic() + 2.5
    reasons = set()
    while time.monotonic() < deadline and "no_worker" not in reasons:
        reasons.add((stage.work.task(task)["waiting_for"] or {}).get("reason"))
        time.sleep(0.05)
    assert "no_worker" in reasons
    done = stage.work.end_of(task, seconds=20)
    assert (done["status"], done["status_reason"], done["runs"]) == ("dropped", "queue_timeout", [])


def _pushes(broker: Any) -> int:
    stats = broker.info("commandstats")
    return int(stats.get("cmdstat_lpush", {}).get("calls", 0))


def _claims(stage: Stage, queue: str) -> int:
    with psycopg.connect(stage.servers.database_url) as connection:
        row = connection.execute(
            "SELECT count(*) FROM run JOIN task ON task.id = run.task_id WHERE task.queue = %s"
            " AND task.created_at > now() - interval '2 minutes' AND task.idempotent = false"
            " AND task.params = '{}'",
            [queue],
        ).fetchone()
    return int(row[0]) if row else 0
