"""The application as workers import it: one task of ours for the pools, none of it for `system`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from celery import Celery

from tests.workers.conftest import ROOT, Worker, until

TASK = "0190a8a0-7c1e-7000-8000-000000000001"


def answer(question: str, role: str = "worker") -> str:
    """Ask a fresh process that has imported the application as `app`."""
    outcome = subprocess.run(
        [sys.executable, "-c", f"from workers import app\n{question}"],
        env=os.environ
        | {
            "DJANGO_SETTINGS_MODULE": "tests.workers.pool.standin_settings",
            "SWITCHYARD_ROLE": role,
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'platform'}",
        },
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert outcome.returncode == 0, outcome.stderr
    return outcome.stdout.strip()


OURS = "print(sorted(name for name in app.tasks if not name.startswith('celery.')))"


def test_a_pool_knows_exactly_one_task() -> None:
    assert answer(OURS) == "['workers.supervise']"


def test_the_system_worker_does_not_know_tenants_work() -> None:
    assert answer(OURS, role="system") == "[]"


@pytest.mark.parametrize(
    ("role", "settings"),
    [
        ("worker", "1 workers.worker_pool:TaskPool ('workers.supervisor',)"),
        ("system", "None celery.concurrency.prefork:TaskPool ('workers.system',)"),
    ],
)
def test_the_role_chooses_the_kind_of_worker(role: str, settings: str) -> None:
    question = "print(app.conf.worker_max_tasks_per_child, app.conf.worker_pool, app.conf.include)"
    assert answer(question, role) == settings


def test_the_task_hands_its_arguments_to_the_supervisor() -> None:
    question = (
        "import sys, types\n"
        "sys.modules['workers.supervisor'] = types.SimpleNamespace(supervise=print)\n"
        f"app.tasks['workers.supervise']('{TASK}', 3, 'token')"
    )
    assert answer(question) == f"{TASK} 3 token"


def test_the_application_uses_the_guarded_transport_and_leaves_logging_alone() -> None:
    question = (
        "from celery import signals\n"
        "print(app.connection().transport_cls, type(app.connection().transport).__name__)\n"
        "print(bool(signals.setup_logging.receivers))"
    )
    assert answer(question).split() == ["redis", "GuardedTransport", "True"]


def test_messages_with_wrong_arguments_or_more_than_arguments_never_run(
    pool_worker: Callable[..., Worker], publisher: Celery
) -> None:
    worker = pool_worker(slots=1).ready()
    send = publisher.send_task
    name: str = "workers.supervise"
    queue: dict[str, Any] = {"queue": "normal"}
    follow_up = publisher.signature("pool.work", [1])
    send(name, [TASK, 1], **queue)
    send(name, ["x", 1, "t"], **queue)
    send(name, [TASK, 1, "t"], {"more": 1}, **queue)
    send(name, [TASK, 1, "t"], link=follow_up, **queue)
    send(name, [TASK, 1, "t"], link_error=follow_up, **queue)
    send(name, [TASK, 1, "t"], chain=[follow_up], **queue)
    send(name, [TASK, 1, "t"], countdown=1, **queue)
    send(name, [TASK, 1, "t"], expires=60, **queue)
    send(name, [TASK, 1, "t"], time_limit=5, **queue)
    send(name, [TASK, 2, "good"], **queue)
    until(lambda: worker.lines("supervise"), 10, "the good message runs")
    until(lambda: sum(worker.facts()["dropped"].values()) == 9, 5, "the others are counted")
    assert worker.lines("supervise") == [[TASK, "2", "good"]]
    assert not worker.lines("start")
