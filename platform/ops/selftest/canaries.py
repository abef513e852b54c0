"""Canaries: small commands of the self-test's own tenant, and what must hold of each at its end."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, TypeVar

from switchyard.client import Client
from switchyard.client.errors import SwitchyardError
from switchyard.client.models import Task

T = TypeVar("T")

TENANT = "canary"
REASON = "self-test"
LABEL = "selftest"
TERMINAL = frozenset({"completed", "failed", "cancelled", "dropped"})


def ask_until(question: Callable[[], T], good: Callable[[T], object], *, seconds: float) -> T:
    """Ask again and again until the answer is good or the time is up; return the last answer."""
    deadline = time.monotonic() + seconds
    while True:
        answer = question()
        if good(answer) or time.monotonic() > deadline:
            return answer
        time.sleep(0.1)


class Canaries:
    """The canary tenant of one self-test, reached by a platform operator's token.

    ``patience`` is how many seconds a canary may take. Leaving the context cancels what still waits
    or runs of this self-test.
    """

    def __init__(self, url: str, operator_token: str, *, tenant: str, patience: float) -> None:
        self.patience = patience
        self.mark = uuid.uuid4().hex[:12]
        self.submitted: list[Task] = []
        #: Canaries that were cancelled before they could start.
        self.never_started: set[str] = set()
        self.client = Client(url, operator_token, tenant, operator_reason=REASON)
        known = {str(each.get("slug")) for each in self.client.operator.tenants()}
        if tenant not in known:
            self.client.operator.create_tenant(tenant, "Self-test")

    def __enter__(self) -> Canaries:
        return self

    def __exit__(self, *_error: object) -> None:
        for task in self.submitted:
            with contextlib.suppress(SwitchyardError):
                if not self.client.task(task).ended:
                    self.client.cancel(task, reason=REASON, force=True)
        self.client.close()

    def submit(self, queue: str, *, seconds: float = 0, scheduled_for: datetime | None = None) -> Task:
        """Submit a canary that sleeps and then says its own mark."""
        script = f"sleep {seconds:g}; echo {self.mark}"
        task = self.client.submit(
            "shell.command",
            {"command": script},
            queue=queue,
            labels={LABEL: self.mark},
            scheduled_for=scheduled_for,
            idempotent=True,
            max_retries=0,
        )
        self.submitted.append(task)
        return task

    def until(self, task: Task, *statuses: str) -> Task:
        """Wait until a canary is in one of these statuses; return it as it was last seen."""
        return ask_until(
            lambda: self.client.task(task),
            lambda now: now.status in statuses,
            seconds=self.patience,
        )

    def end_of(self, task: Task) -> Task:
        """Wait for a canary's end."""
        return self.until(task, *TERMINAL)

    def problems(self) -> Iterator[str]:
        """Yield each broken promise of any canary, in a sentence."""
        for submitted in self.submitted:
            task = self.client.task(submitted)
            yield from (f"canary {task.id}: {told}" for told in self._problems_of(task))

    def _problems_of(self, task: Task) -> Iterator[str]:
        events: list[dict[str, Any]] = [dict(event.raw) for event in self.client.events(task)]
        numbers = [event["seq"] for event in events]
        if numbers != list(range(1, task.last_seq + 1)):
            yield f"its {len(numbers)} events have a gap or a double"
        states = [event["data"]["status"] for event in events if event["kind"] == "state"]
        if not task.ended:
            yield f"it has not ended but is {task.status}"
        elif sum(status in TERMINAL for status in states) != 1:
            yield "it ended more than once"
        if sum(run.status == "completed" for run in task.runs) > 1:
            yield "it succeeded more than once"
        if task.id in self.never_started and task.runs:
            yield "it was cancelled while it waited, and started all the same"
        if task.status == "completed":
            good = next(run.attempt for run in task.runs if run.status == "completed")
            said = [line.text for line in self.client.log(task, run=good, stream="stdout")]
            if said != [self.mark]:
                yield f"its output is {said!r}"
