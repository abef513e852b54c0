"""Inputs into a workspace and artifacts out of it, with a handler that does not mean well."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db.models.functions import Now
from django.utils import timezone

from tasks.errors import Fenced
from tasks.models import FileRemoval, Inflight, LogChunk, Task, TaskFile
from tasks.services.claim import Claimed
from tasks.services.files import fill, remove_unnamed, reserve
from tasks.services.inputs import input_store, inputs_submit
from tasks.services.lose import Expired, lose
from tenants.models import Tenant
from tests.tasks.api.work import running, submitted, tenant
from tests.tasks.files.conftest import contents, stored
from workers.sandbox import make_workspace, wipe_workspace, work_folder
from workers.supervisor.files import InputUnavailable, place_inputs, store_artifacts
from workers.supervisor.output import Output

__all__ = ["stored", "tenant"]


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A run's workspace."""
    return make_workspace(tmp_path, "run")


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Change settings for one test."""

    def change(**values: Any) -> None:
        changed = settings.SWITCHYARD.model_copy(update=values)
        monkeypatch.setattr(settings, "SWITCHYARD", changed)

    return change


def with_inputs(tenant: Tenant, **inputs: bytes) -> Claimed:
    """Return the first run of a task whose inputs have come."""
    task = submitted(tenant, inputs=tuple(inputs))
    for name, data in inputs.items():
        [key] = reserve()
        content = fill(key, io.BytesIO(data).read, cap=10_000_000)
        input_store(task.pk, name, content, media_type="text/plain", by="user:alice")
    inputs_submit(task.pk, by="user:alice")
    return running(Task.objects.get(pk=task.pk))


def kept(claimed: Claimed, workspace: Path, output: Output | None = None, **named: str) -> list[str]:
    """Store what ``named`` names and return the names of what is kept."""
    store_artifacts(
        claimed,
        workspace,
        None,
        named=named,
        output=output or Output(cap=1000),
        clock=timezone.now,
    )
    return sorted(TaskFile.objects.filter(kind="artifact").values_list("name", flat=True))


def told() -> str:
    """Return the lines of the log."""
    return "\n".join("\n".join(chunk.lines) for chunk in LogChunk.objects.order_by("seq"))


def matched(claimed: Claimed, *patterns: str) -> Claimed:
    """Return the run as one of ``shell.command`` with these patterns."""
    from dataclasses import replace

    return replace(claimed, type="shell.command", params={"artifacts": list(patterns)})


# -- inputs ------------------------------------------------------------------------------------------


def test_inputs_are_files_of_the_workspace(tenant: Tenant, workspace: Path) -> None:
    data = os.urandom(600_000)
    claimed = with_inputs(tenant, a=data, b=b"")
    place_inputs(claimed, workspace, None, cap=None)
    folder = work_folder(workspace) / "inputs"
    assert sorted(os.listdir(folder)) == ["a", "b"]
    assert (folder / "a").read_bytes() == data
    assert (folder / "a").stat().st_mode & 0o777 == 0o600


def test_a_task_without_inputs_has_no_folder_for_them(tenant: Tenant, workspace: Path) -> None:
    place_inputs(running(submitted(tenant)), workspace, None, cap=None)
    assert os.listdir(work_folder(workspace)) == []


def test_inputs_that_are_missing_damaged_or_too_many_stop_the_run(
    tenant: Tenant, workspace: Path, stored: Path
) -> None:
    claimed = with_inputs(tenant, a=b"12345")
    with pytest.raises(InputUnavailable, match="5 bytes"):
        place_inputs(claimed, workspace, None, cap=4)
    [path] = (path for path in stored.rglob("*") if path.is_file())
    path.write_bytes(b"1234x")
    with pytest.raises(InputUnavailable, match="a is damaged"):
        place_inputs(claimed, workspace, None, cap=5)
    path.unlink()
    wipe_workspace(workspace)
    make_workspace(workspace.parent, "run")
    with pytest.raises(InputUnavailable, match="a cannot be copied"):
        place_inputs(claimed, workspace, None, cap=None)
    TaskFile.objects.all().delete()
    with pytest.raises(InputUnavailable, match="not there: a"):
        place_inputs(claimed, workspace, None, cap=None)


def test_copying_keeps_the_claim_and_notices_its_loss(
    tenant: Tenant, workspace: Path, limited: Callable[..., None]
) -> None:
    claimed = with_inputs(tenant, a=b"1")
    Inflight.objects.update(lease_until=Now())
    place_inputs(claimed, workspace, None, cap=None)
    assert Inflight.objects.filter(lease_until__gt=Now() + timedelta(seconds=30)).exists()
    Inflight.objects.update(lease_until=Now() - timedelta(seconds=1))
    lose(Expired(claimed.task_id, claimed.epoch))
    wipe_workspace(workspace)
    make_workspace(workspace.parent, "run")
    with pytest.raises(Fenced):
        place_inputs(claimed, workspace, None, cap=None)


# -- artifacts ---------------------------------------------------------------------------------------


def test_what_patterns_match_is_kept_with_its_path(tenant: Tenant, workspace: Path) -> None:
    work = work_folder(workspace)
    (work / "reports" / "deep").mkdir(parents=True)
    (work / "reports" / "a.xml").write_text("a")
    (work / "reports" / "deep" / "b.html").write_text("bb")
    (work / "other").write_text("c")
    claimed = matched(running(submitted(tenant)), "reports/**")
    assert kept(claimed, workspace) == ["reports/a.xml", "reports/deep/b.html"]
    assert "Artifacts kept: 2 (3 bytes)." in told()
    page = TaskFile.objects.get(name__endswith="html")
    assert (page.media_type, page.run, page.size) == ("text/html", 1, 2)


def test_what_the_handler_named_is_kept_once(tenant: Tenant, workspace: Path) -> None:
    (work_folder(workspace) / "out.txt").write_text("x")
    claimed = matched(running(submitted(tenant)), "*.txt")
    assert kept(claimed, workspace, report="out.txt") == ["report"]


def test_no_link_pipe_or_folder_is_followed_or_read(tenant: Tenant, workspace: Path) -> None:
    work = work_folder(workspace)
    outside = workspace.parent / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    (work / "passwd").symlink_to("/etc/passwd")
    (work / "folder").symlink_to(outside)
    (work / "inside").symlink_to("real")
    (work / "real").write_text("real")
    os.mkfifo(work / "pipe")
    (work / "directory").mkdir()
    claimed = matched(running(submitted(tenant)), "**")
    names = {
        "one": "passwd",
        "two": "folder/secret",
        "three": "pipe",
        "four": "directory",
        "five": "missing",
        "six": "inside",
        "seven": "../../outside/secret",
    }
    assert kept(claimed, workspace, **names) == ["real"]
    for name in names:
        assert f"left out: {name}: " in told()
    assert FileRemoval.objects.filter(due_at__lte=Now()).count() == len(names)


def test_what_is_too_much_is_left_out_and_told(
    tenant: Tenant, workspace: Path, stored: Path, limited: Callable[..., None]
) -> None:
    work = work_folder(workspace)
    for name in "abcd":
        (work / name).write_bytes(b"x" * 40)
    with (work / "sparse").open("wb") as sparse:
        sparse.truncate(2**40)
    limited(max_artifact_bytes=100, max_artifacts=4)
    claimed = matched(running(submitted(tenant)), "*")
    assert kept(claimed, workspace) == ["a", "b"]
    assert "c: a run may leave 100 bytes." in told()
    assert "sparse: a run may leave 4 files." in told()
    remove_unnamed()
    assert contents(stored) == 2


def test_a_run_whose_output_was_cut_still_tells_what_it_left_out(
    tenant: Tenant, workspace: Path
) -> None:
    output = Output(cap=10)
    output.feed("stdout", b"x" * 100 + b"\n", timezone.now())
    assert output.truncated
    kept(running(submitted(tenant)), workspace, output, gone="gone")
    assert "left out: gone" in told()


def test_names_that_cannot_be_stored_or_meet_are_left_out(tenant: Tenant, workspace: Path) -> None:
    work = work_folder(workspace)
    deep = "/".join(["d" * 100] * 6)
    (work / deep).mkdir(parents=True)
    (work / deep / "f").write_text("x")
    for raw in (b"\xff", b"\xfe"):
        (work / os.fsdecode(raw)).write_text("x")
    claimed = matched(running(submitted(tenant)), "**")
    assert kept(claimed, workspace) == ["?"]
    assert told().count("too long, or there twice") == 2


def test_an_attempt_stores_once_and_a_later_one_beside_it(tenant: Tenant, workspace: Path) -> None:
    (work_folder(workspace) / "a").write_text("x")
    task = submitted(tenant)
    first = running(task)
    Inflight.objects.update(lease_until=Now())
    assert kept(first, workspace, a="a") == ["a"]
    # Storing may take longer than a lease, so it begins with a fresh one.
    assert Inflight.objects.filter(lease_until__gt=Now() + timedelta(seconds=30)).exists()
    Inflight.objects.update(lease_until=Now() - timedelta(seconds=1))
    lose(Expired(task.pk, first.epoch))
    second = running(Task.objects.get(pk=task.pk))
    with pytest.raises(Fenced):
        kept(first, workspace, a="a")
    assert kept(second, workspace, a="a") == ["a", "a"]
    assert set(TaskFile.objects.values_list("run", flat=True)) == {1, 2}
