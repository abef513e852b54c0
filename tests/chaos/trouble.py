"""What the tests of outages share: proxies that misbehave for a while, and what must come of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.chaos.proxy import Proxy, Way
from tests.chaos.stage import Stage
from tests.e2e.work import Json

ACCEPTED_WITHIN = 3.0
"""Seconds in which a task is accepted while the broker is away (rows 5, 6, 51 of Faults)."""


@contextmanager
def trouble(proxy: Proxy, way: Way, role: str = "*") -> Iterator[None]:
    """Have a proxy misbehave while the context lasts."""
    proxy.set(way, role)
    try:
        yield
    finally:
        proxy.open()


def timed_submit(stage: Stage, **body: object) -> Json:
    """Submit a task and assert that it was accepted quickly, at the first try."""
    began = time.monotonic()
    answer = stage.work.http.post("tasks", json={"type": "test.dummy", "params": {}, **body})
    assert answer.status_code == 201, answer.text
    assert time.monotonic() - began < ACCEPTED_WITHIN
    return stage.ledger.accept(answer.json())


def assert_completed_once(stage: Stage, *tasks: Json) -> None:
    for task in tasks:
        done = stage.work.end_of(task)
        assert (done["status"], len(done["runs"])) == ("completed", 1), done
