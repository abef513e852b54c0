"""A worker against a broker that lies, forgets, freezes, dies and comes back."""

from __future__ import annotations

import base64
import json
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
from celery import Celery
from kombu.exceptions import OperationalError

from tests.workers.conftest import Valkey, Worker, until

StartWorker = Callable[..., Worker]


def message(task: str = "pool.work", args: Any = (7,), **changes: Any) -> dict[str, Any]:
    """A well-formed item of the queue's list; `changes` replace headers."""
    body = json.dumps([list(args), {}, {"callbacks": None, "chain": None}])
    return {
        "body": base64.b64encode(body.encode()).decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {"id": "m-1", "task": task, "lang": "py", **changes},
        "properties": {
            "body_encoding": "base64",
            "delivery_tag": "tag-1",
            "delivery_info": {"exchange": "switchyard", "routing_key": "normal"},
        },
    }


def without(part: str) -> dict[str, Any]:
    cut = message()
    del cut[part]
    return cut


def body(text: str, encoding: str = "base64") -> dict[str, Any]:
    changed = message()
    changed["body"] = text
    changed["properties"]["body_encoding"] = encoding
    return changed


GARBAGE = {
    "text": b"not json",
    "broken UTF-8": b"\xff\xfe\x00",
    "nothing": b"",
    "a number": b"7",
    "a list": b"[1, 2]",
    "deep nesting": b"[" * 100_000,
    "no message": b'{"hello": "world"}',
    "a forged type": b'{"__type__": "uuid", "__value__": {"hex": "no"}}',
    "no properties": json.dumps(without("properties")).encode(),
    "no headers": json.dumps(without("headers")).encode(),
    "no body": json.dumps(without("body")).encode(),
    "bad base64": json.dumps(body("a")).encode(),
    "unknown encoding": json.dumps(body("x", "rot13")).encode(),
    "body that is no JSON": json.dumps(body("bm8=")).encode(),
    "body of another shape": json.dumps(body("e30=")).encode(),
    "unknown task": json.dumps(message("no.such.task")).encode(),
    "task that is a list": json.dumps(message(task=["a"])).encode(),  # type: ignore[arg-type]
    "one of Celery's own tasks": json.dumps(message("celery.map", [{"task": "pool.work"}])).encode(),
    "no id": json.dumps(message(id=None)).encode(),
    "an ETA": json.dumps(message(eta="2030-01-01T00:00:00")).encode(),
    "a time limit": json.dumps(message(timelimit=[1, 1])).encode(),
    "compression": json.dumps(message(compression="application/x-bz2")).encode(),
}


def test_garbage_on_the_queue_is_dropped_and_counted_and_the_worker_goes_on(
    own_valkey: Valkey, pool_worker: StartWorker, publisher: Celery
) -> None:
    worker = pool_worker(slots=1).ready()
    for item in GARBAGE.values():
        own_valkey.client.lpush("normal", item)
    publisher.send_task("pool.work", [1], queue="normal")
    until(lambda: worker.numbers("end") == [1], 10, "the good task behind the garbage ends")
    until(lambda: sum(worker.facts()["dropped"].values()) == len(GARBAGE), 5, "all are counted")
    assert worker.said().count("A message was refused and deleted") == len(GARBAGE)
    assert "Connection to broker lost" not in worker.said()
    assert not own_valkey.client.exists("unacked", "unacked_index")


@pytest.mark.parametrize("item", [b"not json", json.dumps(body("a")).encode()])
def test_without_the_guard_one_bad_item_ends_the_worker(
    own_valkey: Valkey, pool_worker: StartWorker, item: bytes
) -> None:
    worker = pool_worker(slots=1, POOL_UNGUARDED="1").ready()
    own_valkey.client.lpush("normal", item)
    assert worker.process.wait(10) != 0
    assert "Unrecoverable error" in worker.said()


def lose_redis_while_a_message_is_unacknowledged(
    own_valkey: Valkey, worker: Worker, publisher: Celery
) -> None:
    publisher.send_task("pool.work", [1, 3], queue="normal")
    until(lambda: worker.numbers("start") == [1], 5, "the task starts")
    assert not own_valkey.client.exists("unacked")
    own_valkey.stop()


@pytest.mark.parametrize("slots", [1, 2])
def test_losing_redis_with_an_unacknowledged_message_is_survived(
    own_valkey: Valkey, pool_worker: StartWorker, publisher: Celery, slots: int
) -> None:
    """With one slot the worker does not listen while it is busy: the failing acknowledgement tells."""
    worker = pool_worker(slots=slots, POOL_ACKS_LATE="1").ready()
    lose_redis_while_a_message_is_unacknowledged(own_valkey, worker, publisher)
    until(lambda: worker.numbers("end") == [1], 10, "the task ends meanwhile")
    until(lambda: not worker.facts()["connected"], 10, "the worker notices")
    own_valkey.start()
    worker.ready()
    publisher.send_task("pool.work", [2], queue="normal")
    until(lambda: 2 in worker.numbers("end"), 10, "the next task ends")
    assert "Unrecoverable error" not in worker.said()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_redis_that_restarts_empty_is_found_again(
    own_valkey: Valkey, pool_worker: StartWorker, publisher: Celery, how: signal.Signals
) -> None:
    worker = pool_worker().ready()
    publisher.send_task("pool.work", [1, 2], queue="normal")
    until(lambda: worker.numbers("start") == [1], 5, "the task starts")
    own_valkey.stop(how)
    until(lambda: not worker.facts()["connected"], 10, "the worker notices")
    tick = worker.facts()["tick"]
    until(lambda: worker.facts()["tick"] > tick + 2, 10, "the heartbeat goes on without a broker")
    own_valkey.start()
    worker.ready()
    publisher.send_task("pool.work", [2], queue="normal")
    until(lambda: sorted(worker.numbers("end")) == [1, 2], 10, "both tasks end")
    assert worker.numbers("start") == [1, 2]


def test_flushall_loses_no_queue_of_a_publisher_that_declared_it_before(
    own_valkey: Valkey, pool_worker: StartWorker, publisher: Celery
) -> None:
    worker = pool_worker().ready()
    publisher.send_task("pool.work", [1], queue="normal")
    until(lambda: worker.numbers("end") == [1], 5, "the first task ends")
    own_valkey.client.flushall()
    publisher.send_task("pool.work", [2], queue="normal")
    until(lambda: worker.numbers("end") == [1, 2], 5, "the second task ends")
    assert own_valkey.client.exists("_kombu.binding.switchyard")


def test_publishing_to_a_frozen_redis_fails_soon(own_valkey: Valkey, publisher: Celery) -> None:
    publisher.send_task("pool.work", [1], queue="normal")
    own_valkey.freeze()
    began = time.monotonic()
    with pytest.raises(OperationalError):
        publisher.send_task("pool.work", [2], queue="normal")
    assert time.monotonic() - began < 4.5
