"""Making tasks of every status through the services, as dispatcher and workers would.

The fixtures ``tenant`` and ``acme`` are the world that they are made in; conftests import them.
"""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db.models.functions import Now

from tasks.models import Inflight, Leader, PoolMachine, Ready, Task, TaskType
from tasks.outcomes import Outcome
from tasks.services.append import Lines, Said, append
from tasks.services.claim import Claimed, claim
from tasks.services.finish import finish
from tasks.services.submit import submit
from tasks.services.workers import TYPE_COLUMNS, task_types_publish, worker_register
from tasks.states import RunStatus
from tasks.submission import Submission
from tenants.actor import Actor
from tenants.models import ApiToken, Tenant
from tenants.scopes import scopes_of
from tests.tenants.callers import World

TOKEN = "t" * 43
WORKER = uuid.UUID(int=7)
ALICE = Actor(kind="user", name="user:alice", scopes=scopes_of("owner"))

DESCRIBED: dict[str, Any] = {
    **dict.fromkeys(TYPE_COLUMNS, ""),
    "queue": "normal",
    "params_schema": {
        "type": "object",
        "properties": {"seconds": {"type": "number", "minimum": 0}},
        "additionalProperties": False,
    },
    "version": 1,
    "handler": "nowhere:nothing",
    "cancellable": True,
    "idempotent": True,
    "preemptible": False,
    "steering": False,
    "network": False,
    "time_limit": 60,
    "max_retries": 3,
    "retry": {},
    "limits": {},
    "secrets": [],
    "needs": [],
    "on_loss": "retry",
    "on_shutdown": "requeue",
    "test_only": False,
}


@pytest.fixture
def tenant(db: None) -> Tenant:
    """A tenant whose tasks could run, without any caller."""
    publish_types()
    start_platform()
    return Tenant.objects.create(slug="acme", name="Acme")


@pytest.fixture
def acme(world: World) -> World:
    """The world with task types, a dispatcher and workers."""
    publish_types()
    start_platform()
    return world


def publish_types() -> None:
    """Publish ``test.dummy`` (anything goes), ``lint.ruff`` and ``lint.mypy``."""
    task_types_publish(
        {
            "test.dummy": {**DESCRIBED, "test_only": True},
            "lint.ruff": {**DESCRIBED, "queue": "critical"},
            "lint.mypy": {**DESCRIBED, "cancellable": False},
        }
    )


def start_platform(*queues: str) -> None:
    """Make a dispatcher lead and a worker of each queue live; default: all three."""
    Leader.objects.update_or_create(
        name="dispatcher", defaults={"holder": "here:1", "epoch": 1, "renewed_at": Now()}
    )
    for number, queue in enumerate(queues or ("critical", "normal", "batch"), start=7):
        worker_register(
            worker_id=uuid.UUID(int=number),
            name=f"{queue}-1",
            queue=queue,
            machine="m1",
            host="h1",
            pid=100 + number,
            slots=2,
            isolation="process",
            version="1",
            types=dict(TaskType.objects.values_list("name", "version")),
            handlers=dict(TaskType.objects.values_list("name", "handler")),
        )


def serve(queue: str, least: int, most: int, *, target: int | None = None, **more: Any) -> PoolMachine:
    """Let the pool manager of a machine (``m1``) say that it serves a queue within these bounds."""
    told = {"machine": "m1", "capacity": 8, "why": "because", **more}
    types = dict(TaskType.objects.values_list("name", "version"))
    slots = least if target is None else target
    return PoolMachine.objects.create(
        queue=queue, least=least, most=most, target=slots, types=types, **told
    )


def caller(name: str) -> Actor:
    """Return the actor of a user, or of the newest token of a name."""
    kind, _, bare = name.partition(":")
    if kind == "token":
        token = ApiToken.objects.filter(name=bare).latest("id")
        return Actor(kind="token", name=name, token_id=token.pk, scopes=frozenset(token.scopes))
    user = User.objects.get(username=bare)
    return Actor(kind="user", name=name, user_id=user.pk, scopes=ALICE.scopes)


def submitted(tenant: Tenant, type: str = "test.dummy", by: str = "", **options: Any) -> Task:
    """Submit a task and return it as it is stored; ``by`` is as in ``submitted_by``."""
    task = submit(tenant, caller(by) if by else ALICE, Submission(type=type, **options))
    task.refresh_from_db()
    return task


def dispatched(task: Task) -> Inflight:
    """Take a task out of the line, as the dispatcher does."""
    ready = Ready.objects.get(pk=task.pk)
    ready.delete()
    return Inflight.objects.create(
        task_id=task.pk,
        queue=task.queue,
        tenant_id=task.tenant_id,
        rank=ready.rank,
        ordinal=ready.ordinal,
        type_id=ready.type_id,
        preemptible=ready.preemptible,
        epoch=ready.epoch,
        token=TOKEN,
        state="dispatched",
        lease_until=Now(),
    )


def running(task: Task, *said: Said) -> Claimed:
    """Dispatch and claim a task, then let its run say something."""
    row = dispatched(task)
    claimed = claim(
        task.pk,
        row.epoch,
        TOKEN,
        queue=task.queue,
        worker=WORKER,
        machine="m1",
        isolation="process",
        pid=4711,
    )
    assert claimed is not None
    if said:
        append(task.pk, claimed.epoch, said)
    task.refresh_from_db()
    return claimed


def ended(task: Task, status: RunStatus = RunStatus.COMPLETED, *said: Said, **outcome: Any) -> Task:
    """Run a task to its end and return it."""
    claimed = running(task, *said)
    finish(task.pk, claimed.epoch, Outcome(status=status, **outcome))
    task.refresh_from_db()
    return task


def failed(task: Task) -> Task:
    """Let a task fail for good."""
    error = {"code": "broken", "message": "it broke", "type": "ValueError"}
    return ended(task, RunStatus.FAILED, error=error, retry=False)


def lines(at: datetime, *texts: str, stream: str = "stdout", first: int = 1) -> Lines:
    """Return lines that were read 10 ms after each other."""
    return Lines(at, stream, first, texts, tuple(10 * number for number in range(len(texts))))
