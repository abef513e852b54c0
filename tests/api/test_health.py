"""``/health/live`` and ``/health/ready``."""

from __future__ import annotations

import time
from typing import Any

import pytest
from django.db import connection
from django.test import Client

from api import health
from tasks.models import TaskType
from tests.tasks.api.work import publish_types


def test_live_answers_without_a_database() -> None:
    # pytest-django refuses every query here: the test has asked for no database.
    answer = Client().get("/health/live")
    assert (answer.status_code, answer.json()) == (200, {"status": "live"})


@pytest.mark.django_db(transaction=True)
def test_ready_needs_a_published_task_type() -> None:
    TaskType.objects.all().delete()
    answer = Client().get("/health/ready")
    assert answer.status_code == 503
    assert answer["Content-Type"] == "application/problem+json"
    assert int(answer["Retry-After"]) > 0
    assert answer.json()["missing"] == ["task_types"]
    publish_types()
    answer = Client().get("/health/ready")
    assert (answer.status_code, answer.json()) == (200, {"status": "ready"})


@pytest.mark.django_db(transaction=True)
def test_ready_names_the_migration_that_is_not_applied() -> None:
    publish_types()
    last = max(name for app, name in health.newest_migrations() if app == "tasks")
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'tasks' AND name = %s", [last])
        try:
            answer = Client().get("/health/ready")
        finally:
            cursor.execute(
                "INSERT INTO django_migrations (app, name, applied) VALUES ('tasks', %s, now())",
                [last],
            )
    assert answer.status_code == 503
    assert answer.json()["missing"] == ["migrations"]
    assert f"tasks.{last}" in answer.json()["detail"]


@pytest.mark.parametrize("host", ["127.0.0.1", "10.255.255.1"])
def test_ready_tells_within_three_seconds_that_the_database_is_away(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = health._connection_parameters()
    nowhere: dict[str, Any] = {**real, "host": host, "port": "1"}
    monkeypatch.setattr(health, "_connection_parameters", lambda: nowhere)
    began = time.monotonic()
    answer = Client().get("/health/ready")
    assert time.monotonic() - began < 3
    assert answer.status_code == 503
    assert answer.json()["missing"] == ["database"]


@pytest.mark.parametrize("path", ["/health/live", "/health/ready"])
def test_probes_are_only_read(path: str) -> None:
    answer = Client().post(path)
    assert answer.status_code == 405
    assert answer["Allow"] == "GET, HEAD"
    assert answer["Content-Type"] == "application/problem+json"
