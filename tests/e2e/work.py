"""Submitting work to a running platform and looking at what became of it, by the public API alone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.e2e.platforms import Platform

TERMINAL = {"completed", "failed", "cancelled", "dropped"}
Json = dict[str, Any]


class Work:
    """A tenant's client that asserts the codes it expects."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.http = platform.client()

    def submit(self, type: str = "test.dummy", *, expect: int = 201, **body: Any) -> Json:
        """Submit a task; ``params`` and the options of `/api/v1/docs` are keywords."""
        answer = self.http.post("tasks", json={"type": type, **body})
        assert answer.status_code == expect, answer.text[:2000]
        found: Json = answer.json()
        return found

    def runs(self, task: Json) -> list[Json]:
        """Return a task's runs as operators see them, the oldest first."""
        with self.platform.operator() as operator:
            found = operator.get(f"tenants/{self.platform.tenant}/tasks/{task['id']}").json()
        return sorted(found["runs"], key=lambda run: int(run["attempt"]))

    def supervisor_of(self, task: Json) -> int:
        """Return the process that guards a task's newest run."""
        return int(self.runs(task)[-1]["pid"])

    def shell(self, *command: str, **body: Any) -> Json:
        """Submit a command."""
        params = {"command": list(command), **body.pop("params", {})}
        return self.submit("shell.command", params=params, **body)

    def get(self, path: str, *, expect: int = 200, **query: Any) -> Json:
        """GET a path below the tenant."""
        answer = self.http.get(path, params=query)
        assert answer.status_code == expect, answer.text[:2000]
        found: Json = answer.json()
        return found

    def task(self, task: Json | str) -> Json:
        """Return a task as it is now."""
        return self.get(f"tasks/{task if isinstance(task, str) else task['id']}")

    def post(self, path: str, *, expect: int = 200, **body: Any) -> Json:
        """POST to a path below the tenant."""
        answer = self.http.post(path, json=body)
        assert answer.status_code == expect, answer.text[:2000]
        found: Json = answer.json()
        return found

    def end_of(self, task: Json, *, seconds: float = 60) -> Json:
        """Wait for a task's end and return it; survives restarts of the web process."""
        deadline = time.monotonic() + seconds
        last: Json = task
        while time.monotonic() < deadline:
            left = max(1, min(20, int(deadline - time.monotonic())))
            try:
                answer = self.http.get(f"tasks/{task['id']}/wait", params={"timeout": left})
            except httpx2.HTTPError:
                time.sleep(0.1)
                continue
            if answer.status_code == 200:
                last = answer.json()
                if last["status"] in TERMINAL:
                    return self.task(task)
            else:
                assert answer.status_code == 503, answer.text
                time.sleep(0.1)
        raise AssertionError(f"not ended within {seconds} s: {last['status']} {last['waiting_for']}")

    def until(self, task: Json, *statuses: str, seconds: float = 30) -> Json:
        """Wait until a task is in one of these statuses."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            now = self.task(task)
            if now["status"] in statuses:
                return now
            time.sleep(0.05)
        raise AssertionError(f"not {statuses} within {seconds} s: {now['status']} {now['waiting_for']}")

    def events(self, task: Json) -> list[Json]:
        """Return all events of a task, over all pages."""
        return list(self._pages(f"tasks/{task['id']}/events"))

    def lines(self, task: Json, **query: Any) -> list[Json]:
        """Return all log lines of a task, over all pages."""
        return list(self._pages(f"tasks/{task['id']}/log", **query))

    def texts(self, task: Json, **query: Any) -> list[str]:
        """Return the texts of a task's log lines."""
        return [line["text"] for line in self.lines(task, **query)]

    def _pages(self, path: str, **query: Any) -> Iterator[Json]:
        page = self.get(path, limit=200, **query)
        while True:
            yield from page["results"]
            if not page["next"]:
                return
            answer = self.http.get(page["next"])
            assert answer.status_code == 200, answer.text
            page = answer.json()

    def check_history(self, task: Json) -> None:
        """Assert what must hold of every ended task: one end, no gap, no double, ordered times."""
        now = self.task(task)
        assert now["status"] in TERMINAL, now
        events = self.events(task)
        assert [event["seq"] for event in events] == list(range(1, now["last_seq"] + 1))
        ends = [e for e in events if e["kind"] == "state" and e["data"]["status"] in TERMINAL]
        assert len(ends) == 1
        assert now["created_at"] <= now["finished_at"]
        for run in now["runs"]:
            assert run["status"] != "running"
            assert run["started_at"] <= run["finished_at"]


@pytest.fixture
def work(platform: Platform) -> Work:
    """A client of the platform's first tenant; the platform is the session's, or a module's own."""
    return Work(platform)
