"""RabbitMQ in the place of Valkey: another ``BROKER_URL``, and everything else as it was."""

from __future__ import annotations

import json
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from tests.conftest import Eventually
from tests.e2e import rabbitmq
from tests.e2e.platforms import POOLS, ROOT, Platform, temporary_platform
from tests.e2e.rabbitmq import RabbitMQ
from tests.e2e.work import Json, Work

pytestmark = pytest.mark.skipif(not rabbitmq.installed(), reason=rabbitmq.MISSING)

EXCHANGE = "switchyard"
DISPATCH_TIMEOUT = 6
AT_ONCE = {"delay": 0.1, "factor": 1, "jitter": 0}

# Publishes as the dispatcher does: each line on its input is one attempt.
PUBLISHER = """
import json, sys, time, uuid
import django
django.setup()
from workers.dispatcher.publisher import PAUSE_SECONDS, Publisher
from workers.dispatcher.store import Doorbell

publisher = Publisher()
for _ in sys.stdin:
    began = time.monotonic()
    publisher.publish([Doorbell(uuid.uuid4(), "batch", 1, 1, "nobody's")])
    depth = publisher.depth("batch")
    seconds = time.monotonic() - began
    print(json.dumps({"seconds": seconds, "down": publisher.broker_down, "depth": depth}), flush=True)
    if publisher.broker_down:
        time.sleep(PAUSE_SECONDS)
"""
PUBLISHERS_SETTINGS = {
    "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
    "DJANGO_SETTINGS_MODULE": "config.settings",
    "PYTHONPATH": f"{ROOT}:{ROOT / 'platform'}",
    "REDIS_URL": "redis://127.0.0.1:1/0",
    "SWITCHYARD_ENCRYPTION_KEYS": "dGVzdC1vbmx5LWtleS10ZXN0LW9ubHkta2V5LTAwMDA=",
    "SWITCHYARD_SECRET_KEY": "only-for-tests-" + "0" * 40,
}


@pytest.fixture(scope="module")
def broker() -> Iterator[RabbitMQ]:
    """A RabbitMQ of this module's own."""
    server = RabbitMQ()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="module")
def platform(broker: RabbitMQ) -> Iterator[Platform]:
    """A platform that was told only the broker's URL of what `up` would embed."""
    with temporary_platform(
        "rabbitmq",
        BROKER_URL=broker.url,
        SWITCHYARD_DISPATCH_TIMEOUT=str(DISPATCH_TIMEOUT),
        # So many that two worker processes share the critical queue.
        SWITCHYARD_POOLS="critical=10,normal=2,batch=2",
    ) as running:
        yield running


def ran_once(work: Work, task: Json, *, seconds: float = 60) -> None:
    """Assert that a task with the output ``once`` was run by one run, and to its end."""
    done = work.end_of(task, seconds=seconds)
    assert (done["status"], len(done["runs"])) == ("completed", 1), done
    assert work.texts(task, stream="stdout") == ["once"]
    work.check_history(task)


def test_up_takes_the_url_and_embeds_the_rest(platform: Platform, broker: RabbitMQ) -> None:
    assert platform.credentials["broker_url"] == broker.url
    assert platform.pid("valkey")
    assert platform.pid("postgres")
    with platform.operator() as operator:
        components = {each["name"]: each["status"] for each in _components(operator)}
    assert components["broker"] == "healthy"


def _components(operator: Any) -> list[Json]:
    answer = operator.get("operator/status")
    assert answer.status_code == 200, answer.text
    found: list[Json] = answer.json()["components"]
    return found


@pytest.mark.parametrize("queue", POOLS)
def test_each_queue_is_served(work: Work, queue: str) -> None:
    ran_once(work, work.submit(queue=queue, params={"stdout": "once"}))


def test_a_running_task_is_cancelled(work: Work) -> None:
    task = work.submit(params={"seconds": 60, "steps": 600})
    work.until(task, "running")
    work.post(f"tasks/{task['id']}/cancel")
    assert work.end_of(task, seconds=20)["status"] == "cancelled"


def test_failing_attempts_are_tried_again(work: Work) -> None:
    task = work.submit(params={"fail_times": 2}, retry=AT_ONCE)
    done = work.end_of(task)
    assert [run["status"] for run in done["runs"]] == ["failed", "failed", "completed"]
    work.check_history(task)


def test_no_task_waits_behind_a_full_worker_while_another_is_free(
    platform: Platform, work: Work
) -> None:
    filling = [work.submit(queue="critical", params={"seconds": 60}) for _ in range(10)]
    by_worker: dict[str, list[Json]] = {}
    with platform.operator() as operator:
        for task in filling:
            work.until(task, "running")
            assert _waited(work, task) < DISPATCH_TIMEOUT - 1
            seen = operator.get(f"tenants/{platform.tenant}/tasks/{task['id']}").json()
            by_worker.setdefault(seen["runs"][0]["worker"], []).append(task)
    assert len(by_worker) == 2
    full, freed = by_worker.values()
    for task in freed:
        work.post(f"tasks/{task['id']}/cancel")
    for task in freed:
        work.end_of(task)
    tasks = [work.submit(queue="critical", params={"stdout": "once"}) for _ in freed]
    for task in tasks:
        ran_once(work, task)
        assert _waited(work, task) < DISPATCH_TIMEOUT - 1
    for task in full:
        work.post(f"tasks/{task['id']}/cancel")
    for task in full:
        work.end_of(task)


def _waited(work: Work, task: Json) -> float:
    """Return the seconds between a task's submission and its start."""
    now = work.task(task)
    created, started = (datetime.fromisoformat(now[at]) for at in ("created_at", "started_at"))
    return (started - created).total_seconds()


def test_purged_queues_lose_nothing_and_run_nothing_twice(
    platform: Platform, work: Work, broker: RabbitMQ, eventually: Eventually
) -> None:
    running = [work.submit(params={"seconds": 4, "stdout": "once"}) for _ in range(2)]
    for task in running:
        work.until(task, "running")
    # A frozen worker takes its share of messages and claims none; killed, it gives them back.
    worker = platform.signal("batch", signal.SIGSTOP)
    queued = [
        work.submit(params={"stdout": "once"}, queue=("batch", "normal")[number % 2])
        for number in range(12)
    ]
    for task in queued[0:4:2]:
        eventually(lambda task=task: _handed_over(work, task))
    platform.signal("batch")
    purged: list[int] = []
    eventually(lambda: purged.append(broker.purge(*POOLS)) or sum(purged) >= 2)
    platform.wait_for_another("batch", worker)
    for task in (*running, *queued):
        ran_once(work, task)


def _handed_over(work: Work, task: Json) -> bool:
    now = work.task(task)
    return now["status"] == "queued" and now["waiting_for"]["reason"] == "dispatch"


def test_deleted_queues_come_back(work: Work, broker: RabbitMQ) -> None:
    with broker.connection() as connection:
        for queue in POOLS:
            connection.default_channel.queue_delete(queue)
    for queue in POOLS:
        ran_once(work, work.submit(queue=queue, params={"stdout": "once"}), seconds=30)


def test_a_killed_broker_interrupts_no_run_and_new_ones_follow(
    platform: Platform, work: Work, broker: RabbitMQ
) -> None:
    components = [platform.pid(name) for name in (*POOLS, "dispatcher", "beat", "system")]
    running = [work.submit(params={"seconds": 5, "stdout": "once"}) for _ in range(2)]
    for task in running:
        work.until(task, "running")
    broker.kill()
    meanwhile = [work.submit(queue=queue, params={"stdout": "once"}) for queue in POOLS]
    broker.start()
    for task in (*running, *meanwhile):
        ran_once(work, task)
    for queue in POOLS:
        ran_once(work, work.submit(queue=queue, params={"stdout": "once"}))
    assert [platform.pid(name) for name in (*POOLS, "dispatcher", "beat", "system")] == components


class Publisher:
    """A second publisher beside the dispatcher's; it rings for tasks that do not exist."""

    def __init__(self, platform: Platform) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", PUBLISHER],
            env=platform.environment | PUBLISHERS_SETTINGS,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def attempt(self) -> Json:
        """Publish one message, ask for the queue's length, and return what came of it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        told: Json = json.loads(self._process.stdout.readline())
        return told

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def publisher(platform: Platform) -> Iterator[Publisher]:
    process = Publisher(platform)
    yield process
    process.close()


def test_a_frozen_broker_holds_nobody_up(
    platform: Platform, work: Work, broker: RabbitMQ, publisher: Publisher
) -> None:
    dispatcher = platform.pid("dispatcher")
    assert not publisher.attempt()["down"]
    running = work.submit(params={"seconds": 3, "stdout": "once"})
    work.until(running, "running")
    broker.freeze()
    try:
        frozen = work.submit(params={"stdout": "once"})
        for _connection in ("open", "new"):
            told = publisher.attempt()
            assert (told["down"], told["depth"]) == (True, None)
            assert told["seconds"] < 4
        ran_once(work, running)
    finally:
        broker.thaw()
    ran_once(work, frozen)
    assert platform.pid("dispatcher") == dispatcher


def test_a_message_for_a_queue_that_has_gone_is_noticed(
    platform: Platform, work: Work, broker: RabbitMQ, publisher: Publisher
) -> None:
    assert not publisher.attempt()["down"]
    # The worker would make the queue anew at once.
    platform.signal("batch", signal.SIGSTOP)
    try:
        with broker.connection() as connection:
            connection.default_channel.queue_delete("batch")
        assert publisher.attempt()["down"]
        assert publisher.attempt()["depth"] == 2
    finally:
        platform.signal("batch", signal.SIGCONT)
    ran_once(work, work.submit(queue="batch", params={"stdout": "once"}))


# Body, then the properties that kombu's workers read.
JSON = {"content_type": "application/json", "content_encoding": "utf-8"}
OURS = {"headers": {"task": "workers.supervise", "id": "1"}}
NO_TASK = b'[["00000000-0000-7000-8000-000000000000", 1, "none"], {}, {}]'
GARBAGE: tuple[tuple[bytes, dict[str, Any]], ...] = (
    (b"", {}),
    (b"hello", {"content_type": "text/plain", "content_encoding": "utf-8"}),
    (b"\xff\x00\xfe", {**JSON, **OURS}),
    (b"{", {**JSON, **OURS}),
    (b"[" * 100_000, {**JSON, **OURS}),
    (b"[[], {}, {}]", {**JSON, **OURS, "content_encoding": "klingon"}),
    (b"[[], {}, {}]", {**JSON, "headers": {"task": ["workers.supervise"], "id": {"deep": {}}}}),
    (b"[[], {}, {}]", {**JSON, "headers": {"task": "celery.backend_cleanup", "id": "1"}}),
    (NO_TASK, {**JSON, "headers": {**OURS["headers"], "eta": "never", "retries": "many"}}),
    (NO_TASK, {**JSON, **OURS}),
)


def test_garbage_on_a_queue_stops_no_worker(platform: Platform, work: Work, broker: RabbitMQ) -> None:
    worker = platform.pid("normal")
    with broker.connection() as connection:
        channel = connection.default_channel
        for body, properties in GARBAGE:
            message = channel.prepare_message(body, **properties)
            channel.basic_publish(message, exchange=EXCHANGE, routing_key="normal")
    ran_once(work, work.submit(params={"stdout": "once"}))
    assert platform.pid("normal") == worker


def test_no_remote_command_is_obeyed_and_no_pickle_opened(
    platform: Platform, work: Work, broker: RabbitMQ, tmp_path: Path
) -> None:
    workers = [platform.pid(queue) for queue in POOLS]
    opened = tmp_path / "opened"
    stranger = Celery(broker=broker.url)
    stranger.control.broadcast("shutdown")
    assert stranger.control.inspect(timeout=0.5).ping() is None
    with broker.connection() as connection:
        for queue in POOLS:
            connection.Producer().publish(
                pickle.dumps(([_Opened(opened)], {}, {})),
                exchange=EXCHANGE,
                routing_key=queue,
                content_type="application/x-python-serialize",
                content_encoding="binary",
                headers={"task": "workers.supervise", "id": "1"},
            )
    for queue in POOLS:
        ran_once(work, work.submit(queue=queue, params={"stdout": "once"}))
    assert [platform.pid(queue) for queue in POOLS] == workers
    assert not opened.exists()


class _Opened:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)
