"""A leading dispatcher and workers who do as they are told, to put under pressure."""

from __future__ import annotations

import uuid
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.db.models import F
from django.db.models.functions import Now

from tasks.models import Inflight, Leader, Task, Worker
from tasks.outcomes import Outcome
from tasks.services.claim import claim
from tasks.services.finish import finish
from tasks.states import RunStatus
from tenants.models import Tenant
from tests.tasks.api.work import WORKER, submitted
from workers.dispatcher.loop import CHORES, Dispatcher
from workers.dispatcher.pace import Pace

WORKERS = {"critical": WORKER, "normal": uuid.UUID(int=8), "batch": uuid.UUID(int=9)}
AFTER = 0.5


class Platform:
    """A leading dispatcher that goes round when it is told to, and workers who do as they are told."""

    def __init__(self, tenant: Tenant, clock: list[float]) -> None:
        self.tenant = tenant
        self.clock = clock
        self.dispatcher = Dispatcher()
        assert self.dispatcher._take_lead()

    def submit(self, queue: str, count: int = 1, **options: Any) -> list[Task]:
        tenant = options.pop("tenant", self.tenant)
        return [submitted(tenant, queue=queue, **options) for _ in range(count)]

    def go_round(self, *, seconds: float = 0.0) -> None:
        """Let time pass, then look and dispatch once."""
        if seconds:
            self.clock[0] += seconds
            passed = timedelta(seconds=seconds)
            Task.objects.filter(status="queued").update(queued_at=F("queued_at") - passed)
        Worker.objects.filter(status="alive").update(seen_at=Now())
        self.dispatcher._pace = Pace(CHORES)
        self.dispatcher._look({"*"})
        self.dispatcher._dispatch()

    def tell(self) -> None:
        """Write the lanes as waiting tasks tell them."""
        self.dispatcher._picture.write_lanes(pressed=self.dispatcher._pressure.told)

    def claim(self, *tasks: Task) -> None:
        """Let workers of the pools that the tasks were sent to claim them."""
        for task in tasks:
            row = Inflight.objects.get(pk=task.pk)
            pool = row.pool or row.queue
            assert self.claimed_by(task, pool), task

    def claimed_by(self, task: Task, pool: str) -> bool:
        row = Inflight.objects.get(pk=task.pk)
        found = claim(
            task.pk,
            row.epoch,
            row.token,
            queue=pool,
            worker=WORKERS[pool],
            machine="m1",
            isolation="process",
            pid=1,
        )
        return found is not None

    def run(self, queue: str, count: int, **options: Any) -> list[Task]:
        tasks = self.submit(queue, count, **options)
        self.go_round()
        self.claim(*tasks)
        return tasks

    def end(self, task: Task, status: RunStatus = RunStatus.COMPLETED) -> Task:
        finish(task.pk, Inflight.objects.get(pk=task.pk).epoch, Outcome(status))
        task.refresh_from_db()
        return task


@pytest.fixture
def platform(tenant: Tenant, monkeypatch: pytest.MonkeyPatch, settings: Any) -> Platform:
    settings.SWITCHYARD = settings.SWITCHYARD.model_copy(update={"preempt_after": AFTER})
    Leader.objects.filter(name="dispatcher").update(renewed_at="2020-01-01T00:00:00Z")
    clock = [1000.0]
    monkeypatch.setattr("workers.dispatcher.pressure.time", SimpleNamespace(monotonic=lambda: clock[0]))
    return Platform(tenant, clock)


def asked(*tasks: Task) -> list[bool]:
    return [Inflight.objects.get(pk=task.pk).ask == "preempt" for task in tasks]


def pools(*tasks: Task) -> list[str | None]:
    """Where each task was sent; None: it waits in line."""
    rows = {row.pk: row.pool or row.queue for row in Inflight.objects.all()}
    return [rows.get(task.pk) for task in tasks]
