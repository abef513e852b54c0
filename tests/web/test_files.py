"""Inputs and artifacts on a task's page."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from django.test import Client

from tasks.models import Task, TaskFile
from tasks.services.files import Artifact, artifacts_record, fill, reserve
from tasks.services.inputs import input_store
from tests.tasks.api.work import running, submitted
from tests.tasks.files.conftest import stored
from tests.tenants.callers import World
from tests.web.conftest import Browser

__all__ = ["stored"]

EVIL = "<script>alert(1)</script>gpj.\u202eexe"


def page_of(client: Client, task: Task, part: str = "") -> str:
    return client.get(f"/t/acme/tasks/{task.pk}{part}").content.decode()


def left(task: Task, name: str) -> TaskFile:
    [key] = reserve()
    content = fill(key, io.BytesIO(b"x" * 2000).read, cap=10_000)
    artifacts_record(task.pk, task.epoch, [Artifact(name, "text/html", content)])
    return TaskFile.objects.get(storage_key=key)


def test_inputs_are_listed_with_what_has_come(world: World, log_in: Browser) -> None:
    alice = log_in("alice")
    task = submitted(world.acme, inputs=("data.csv", "late.csv"))
    [key] = reserve()
    content = fill(key, io.BytesIO(b"x" * 2000).read, cap=10_000)
    input_store(task.pk, "data.csv", content, media_type="text/csv", by="user:alice")
    page = page_of(alice, task)
    assert "data.csv" in page
    assert "not uploaded yet" in page
    assert "Input data.csv uploaded" in page


@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume")
def test_artifacts_can_be_downloaded_from_the_page(world: World, log_in: Browser, stored: Path) -> None:
    alice = log_in("alice")
    task = submitted(world.acme)
    assert "None yet" in page_of(alice, task)
    running(task)
    file = left(task, EVIL)
    for page in (page_of(alice, task), page_of(alice, task, "/state")):
        assert "<script>alert" not in page
        assert "\u202e" not in page
        assert "gpj._exe" in page
        link = f"/api/v1/tenants/acme/tasks/{task.pk}/artifacts/{file.pk}"
        assert f'href="{link}" download' in page
    answer = alice.get(link)
    assert answer.status_code == 200
    assert answer.headers["Content-Disposition"].startswith("attachment")
    assert len(b"".join(answer)) == 2000
    assert log_in("carol").get(link).status_code == 404
