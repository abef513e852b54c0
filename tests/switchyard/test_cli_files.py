"""Uploading inputs and downloading artifacts with the command, from a server that may lie."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from switchyard.cli.artifacts import place_of
from switchyard.client import Client, UnexpectedAnswer
from tests.switchyard.conftest import Command
from tests.switchyard.contract_server import ContractServer


def test_run_uploads_its_inputs_and_lets_the_task_go(
    server: ContractServer, command: Command, tmp_path: Path
) -> None:
    (tmp_path / "data.csv").write_bytes(b"x" * 1_000_000)
    done = command("run", "shell.command", "--detach", "--input", "data=data.csv", "--", "true")
    assert done.returncode == 0, done.stderr
    assert server.bodies[0]["inputs"] == ["data"]
    assert server.uploads == {"data": b"x" * 1_000_000}
    [headers] = [headers for method, _, headers in server.requests if method == "PUT"]
    assert headers["content-length"] == "1000000"
    assert server.tasks[done.stdout.strip()]["status"] == "queued"


@pytest.mark.parametrize("given", ["data.csv", "data=missing.csv", "=data.csv"])
def test_a_wrong_input_is_told_before_anything_is_submitted(
    server: ContractServer, command: Command, tmp_path: Path, given: str
) -> None:
    (tmp_path / "data.csv").write_text("x")
    done = command("run", "shell.command", "--input", given, "--", "true")
    assert done.returncode == 2
    assert "--input" in done.stderr
    assert server.tasks == {}


def test_a_task_whose_upload_is_refused_does_not_wait_for_its_deadline(
    server: ContractServer, client: Client
) -> None:
    cancelled: list[str] = []
    server.on_cancel = cancelled.append
    refusal = (413, {}, {"code": "too_large", "detail": "Too large.", "status": 413})
    server.on_submit = lambda _: server.refusals.append(refusal)
    with pytest.raises(Exception, match="Too large"):
        client.submit("shell.command", uploads={"a": b"x"})
    assert cancelled == list(server.tasks)


def test_a_submit_that_had_gone_all_the_way_is_not_undone(
    server: ContractServer, client: Client
) -> None:
    refusal = (409, {}, {"code": "inputs_closed", "detail": "It is queued.", "status": 409})
    server.on_submit = lambda name: (
        server.tasks[name].update(status="queued"),
        server.refusals.append(refusal),
    )
    assert client.submit("shell.command", uploads={"a": b"x"}).status == "queued"


def test_artifacts_are_listed(server: ContractServer, command: Command) -> None:
    task = server.task()
    assert "no artifacts" in command("tasks", "artifacts", task).stderr
    server.artifacts = {"1": ("reports/a.xml", b"x" * 1500), "2": ("esc\x1b[2Jape", b"")}
    shown = command("tasks", "artifacts", task).stdout
    assert "reports/a.xml" in shown
    assert "1.5 kB" in shown
    assert "\x1b" not in shown
    listed = json.loads(command("tasks", "artifacts", task, "--json").stdout)
    assert [entry["name"] for entry in listed] == ["reports/a.xml", "esc\x1b[2Jape"]
    assert json.loads(command("tasks", "artifacts", task, "--run", "2", "--json").stdout) == []


def test_a_download_stays_in_its_folder(
    server: ContractServer, command: Command, tmp_path: Path
) -> None:
    task = server.task()
    folder = tmp_path / "got"
    folder.mkdir()
    (folder / "way-out").symlink_to(tmp_path)
    names = ["../up", "/abs", "a/../../up", "way-out/up", "", "a//b", ".", "ok/file", "new\x1b[2J"]
    server.artifacts = {str(n): (name, b"data") for n, name in enumerate(names)}
    done = command("tasks", "artifacts", task, "--download", "got")
    assert done.returncode == 1
    assert done.stderr.count("leads out of got") == 7
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "config") == ["got"]
    assert (folder / "ok" / "file").read_bytes() == b"data"
    assert sorted(path.name for path in folder.iterdir()) == ["new_[2J", "ok", "way-out"]
    assert "\x1b" not in done.stdout + done.stderr


def test_of_several_with_one_name_the_newest_is_saved(
    server: ContractServer, command: Command, tmp_path: Path
) -> None:
    task = server.task()
    server.artifacts = {"2": ("report", b"second"), "1": ("report", b"first")}
    done = command("tasks", "artifacts", task, "--download", "got", "--json")
    [entry] = json.loads(done.stdout)
    assert (Path(entry["path"]).read_bytes(), entry["id"]) == (b"second", "2")


def test_what_arrives_damaged_is_not_kept(
    server: ContractServer, client: Client, tmp_path: Path
) -> None:
    task = server.task()
    server.artifacts = {"1": ("report", b"right")}
    [artifact] = client.artifacts.list(task)
    server.artifacts = {"1": ("report", b"wrong")}
    (tmp_path / "report").write_text("older")
    with pytest.raises(UnexpectedAnswer, match="damaged"):
        client.artifacts.save(task, artifact, tmp_path / "report")
    assert (tmp_path / "report").read_text() == "older"
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


def test_places_are_below_the_folder_or_nowhere(tmp_path: Path) -> None:
    assert place_of(tmp_path, "a/b.txt") == tmp_path.resolve() / "a" / "b.txt"
    assert place_of(tmp_path, "a\\..\\b") == tmp_path.resolve() / "a_.._b"
    assert place_of(tmp_path, "nul\0") == tmp_path.resolve() / "nul_"
    for name in ("..", "a/..", "/etc/passwd", "", "a/", "x" * 201):
        assert place_of(tmp_path, name) is None, name
