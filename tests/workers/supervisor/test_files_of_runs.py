"""Whole runs with files: what a handler finds, what it leaves, and what it cannot reach."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import FileSystemStorage, storages
from django.db import OperationalError, connection

from tasks.models import FileRemoval, Task, TaskFile
from tasks.services.files import fill, reserve
from tasks.services.inputs import input_store, inputs_submit
from tests.tasks.api.work import submitted
from tests.workers.supervisor.conftest import Bench
from workers.sandbox import Level, artifacts
from workers.supervisor import files


@pytest.fixture
def stored(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where files are kept during a test: in the state folder, as on a real machine."""
    folder = bench.folder / "files"
    storage = FileSystemStorage(
        location=folder, directory_permissions_mode=0o700, file_permissions_mode=0o600
    )
    monkeypatch.setitem(storages._storages, "files", storage)
    return folder


def with_input(bench: Bench, data: bytes, command: str) -> Task:
    """Return a queued command that has the input ``data``."""
    params = {"command": command, "artifacts": ["out/**", "link"]}
    task = submitted(bench.tenant, type="shell.command", params=params, inputs=("data",))
    [key] = reserve()
    content = fill(key, io.BytesIO(data).read, cap=10**8)
    input_store(task.pk, "data", content, media_type="text/plain", by="user:alice")
    return inputs_submit(task.pk, by="user:alice")


def test_a_run_finds_its_inputs_and_leaves_its_artifacts(
    bench: Bench, level: Level, stored: Path
) -> None:
    data = os.urandom(300_000)
    script = "mkdir out && cp inputs/data out/copy && ln -s /etc/passwd link && echo new > inputs/data"
    run = bench.attempt(with_input(bench, data, script), level)
    assert run.wait() == 0, run.said()
    assert (run.task.status, run.task.error) == ("completed", None), run.texts()
    left = TaskFile.objects.get(kind="artifact")
    assert (left.name, left.run) == ("out/copy", 1)
    assert (stored / left.storage_key).read_bytes() == data
    assert run.run.log_lines == len(run.texts())
    bench.nothing_is_left(run)


@pytest.mark.parametrize(
    ("end", "status"), [("exit 3", "failed"), ("sleep 60", "timed_out"), ("kill -9 $$", "failed")]
)
def test_a_run_that_ends_badly_leaves_its_artifacts_too(
    bench: Bench, stored: Path, end: str, status: str
) -> None:
    params = {"command": f"echo x > report; {end}", "artifacts": ["report"]}
    run = bench.start(Level.PROCESS, "shell.command", params=params, time_limit=1)
    assert run.wait() == 0, run.said()
    assert run.run.status == status
    assert TaskFile.objects.get().name == "report"


@pytest.mark.parametrize("question", ["artifacts_record", "append"])
def test_artifacts_are_kept_once_though_the_answer_to_a_commit_is_lost(
    bench: Bench, stored: Path, monkeypatch: pytest.MonkeyPatch, question: str
) -> None:
    ask, lost = getattr(files, question), bench.folder / "lost"

    def losing_the_first_answer(*args: Any, **words: Any) -> Any:
        answer = ask(*args, **words)
        if not lost.exists():
            lost.touch()
            connection.close()
            raise OperationalError("the answer was lost")
        return answer

    monkeypatch.setattr(files, question, losing_the_first_answer)
    params = {"command": "echo x > report", "artifacts": ["report"]}
    run = bench.start(Level.PROCESS, "shell.command", params=params)
    assert run.wait() == 0, run.said()
    assert lost.exists()
    assert run.run.status == "completed"
    assert TaskFile.objects.get().name == "report"
    assert run.texts("system") == ["Artifacts kept: 1 (2 bytes)."]
    bench.nothing_is_left(run)


def test_artifacts_that_were_removed_before_they_had_a_row_change_nothing_else(
    bench: Bench, stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = files.artifacts_record

    def too_late(*args: Any) -> None:
        FileRemoval.objects.all().delete()
        record(*args)

    monkeypatch.setattr(files, "artifacts_record", too_late)
    params = {"command": "echo x > report", "artifacts": ["report"]}
    run = bench.start(Level.PROCESS, "shell.command", params=params)
    assert run.wait() == 0, run.said()
    assert run.run.status == "completed"
    assert not TaskFile.objects.exists()
    (told,) = run.texts("system")
    assert "report" in told
    bench.nothing_is_left(run)


def test_where_no_artifact_could_be_looked_for_is_told(
    bench: Bench, stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifacts, "SEEN_CAP", 3)
    params = {"command": "touch 1 2 3 4", "artifacts": ["**"]}
    run = bench.start(Level.PROCESS, "shell.command", params=params)
    assert run.wait() == 0, run.said()
    assert run.run.status == "completed"
    said = "\n".join(run.texts("system"))
    assert "the first 3 files and folders" in said
    assert TaskFile.objects.count() == 3


def test_a_run_without_its_inputs_fails_and_says_so(bench: Bench, stored: Path) -> None:
    task = with_input(bench, b"x", "true")
    TaskFile.objects.all().delete()
    run = bench.attempt(task)
    assert run.wait() == 0, run.said()
    assert run.task.error["code"] == "input_unavailable"
    assert "data" in run.task.error["message"]
    bench.nothing_is_left(run)


def test_a_handler_cannot_read_what_others_have_stored(bench: Bench, level: Level, stored: Path) -> None:
    if level is Level.PROCESS:
        pytest.skip("at this level a handler is the worker's own user")
    run = bench.attempt(with_input(bench, b"x", f"ls {stored}; cat {stored}/*/*"), level)
    assert run.wait() == 0, run.said()
    assert run.task.status == "failed"
    assert run.texts("stdout") == []
