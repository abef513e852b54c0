"""Files through a whole platform: uploaded, seen by a handler, left by it, downloaded, removed."""

from __future__ import annotations

import hashlib
import os
import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.conftest import Eventually
from tests.e2e.platforms import Platform
from tests.e2e.work import Json, Work

MIB = 1024 * 1024
SIZE = 30 * MIB


@pytest.fixture(scope="module")
def abandoned(platform: Platform) -> Json:
    """A task of which one input of two comes; submitted first, so that its deadline comes last."""
    work = Work(platform)
    task = work.submit(inputs=["a", "b"])
    assert work.http.put(f"tasks/{task['id']}/inputs/a", content=b"x" * 1000).status_code == 201
    return task


def stored(platform: Platform) -> list[int]:
    """Return the sizes of all files that the platform keeps."""
    folder = platform.state / "service" / "files"
    return sorted(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def allocated(work: Work, command: str, *patterns: str) -> Json:
    params = {"command": command, "artifacts": list(patterns)}
    return work.submit("shell.command", params=params, inputs=["data.bin"], queue="critical")


def test_thirty_megabytes_go_in_and_come_out(work: Work, abandoned: Json, tmp_path: Path) -> None:
    source = tmp_path / "data.bin"
    source.write_bytes(os.urandom(MIB) * 30)
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    task = allocated(work, "sha256sum inputs/data.bin; mv inputs/data.bin out.bin", "*.bin")
    with source.open("rb") as stream:
        answer = work.http.put(f"tasks/{task['id']}/inputs/data.bin", content=stream)
    assert (answer.status_code, answer.json()["sha256"]) == (201, digest)
    assert work.post(f"tasks/{task['id']}/submit")["status"] == "queued"
    assert work.end_of(task)["status"] == "completed"
    assert digest in work.texts(task)[0]
    [artifact] = work.get(f"tasks/{task['id']}/artifacts")["results"]
    assert (artifact["name"], artifact["size"], artifact["sha256"]) == ("out.bin", SIZE, digest)
    whole = work.http.get(artifact["links"]["self"])
    assert hashlib.sha256(whole.content).hexdigest() == digest
    assert whole.headers["Content-Disposition"] == 'attachment; filename="out.bin"'
    part = work.http.get(artifact["links"]["self"], headers={"Range": f"bytes={SIZE - 10}-"})
    assert (part.status_code, part.content) == (206, whole.content[-10:])


def test_an_upload_does_not_pass_through_the_memory_of_the_web_process(
    work: Work, platform: Platform, tmp_path: Path
) -> None:
    source = tmp_path / "data.bin"
    with source.open("wb") as stream:
        stream.truncate(300 * MIB)
    task = allocated(work, "true")
    before = peak_memory(platform.pid("web"))
    with source.open("rb") as stream:
        answer = work.http.put(f"tasks/{task['id']}/inputs/data.bin", content=stream)
    assert answer.json()["size"] == 300 * MIB
    assert peak_memory(platform.pid("web")) - before < 60 * MIB
    work.post(f"tasks/{task['id']}/cancel")


def test_a_connection_that_is_cut_leaves_no_input(
    work: Work, platform: Platform, eventually: Eventually
) -> None:
    task = allocated(work, "true")
    head = (
        f"PUT /api/v1/tenants/{platform.tenant}/tasks/{task['id']}/inputs/data.bin HTTP/1.1\r\n"
        f"Host: {urlsplit(platform.url).netloc}\r\n"
        f"Authorization: Bearer {platform.credentials['token']}\r\n"
        f"Content-Length: {3_333_333}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", urlsplit(platform.url).port or 0)) as half:
        half.sendall(head.encode() + b"x" * MIB)
        eventually(lambda: any(0 < size < 3_333_333 for size in stored(platform)), seconds=20)
    missing = work.http.post(f"tasks/{task['id']}/submit", json={})
    assert missing.json()["missing"] == ["data.bin"]
    work.post(f"tasks/{task['id']}/cancel")


def test_a_stranger_is_refused_before_the_body(platform: Platform) -> None:
    path = "/api/v1/tenants/demo/tasks/01a1fc7b-66ee-76c8-aeb8-e6e146e1ee2c/inputs/a"
    head = (
        f"PUT {path} HTTP/1.1\r\nHost: {urlsplit(platform.url).netloc}\r\n"
        f"Expect: 100-continue\r\nContent-Length: {SIZE}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", urlsplit(platform.url).port or 0)) as connection:
        connection.settimeout(20)
        connection.sendall(head.encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 401")


def test_a_large_submit_is_told_to_upload(work: Work) -> None:
    answer = work.http.post("tasks", json={"type": "test.dummy", "params": {"stdout": "x" * 2 * MIB}})
    assert answer.status_code == 413
    assert "`inputs`" in answer.json()["detail"]


def test_links_out_of_the_workspace_are_not_followed(work: Work, platform: Platform) -> None:
    script = (
        "ln -s /etc/passwd passwd; ln -s / root; mkdir real; echo hello > real/file; mkfifo pipe;"
        f"ls -R {platform.state}/service/files"
    )
    task = work.shell(script, params={"command": script, "artifacts": ["**"]})
    assert work.end_of(task)["status"] == "failed"
    found = work.get(f"tasks/{task['id']}/artifacts")["results"]
    assert [artifact["name"] for artifact in found] == ["real/file"]
    assert work.texts(task, stream="stdout") == []


def test_what_will_never_be_used_is_removed(
    work: Work, platform: Platform, abandoned: Json, eventually: Eventually
) -> None:
    dropped = work.end_of(abandoned, seconds=40)
    assert (dropped["status"], dropped["status_reason"]) == ("dropped", "upload_timeout")
    late = work.http.put(f"tasks/{abandoned['id']}/inputs/b", content=b"x")
    assert (late.status_code, late.json()["code"]) == (409, "task_finished")
    # The abandoned, the cancelled and the cut upload are gone; the round trip's two are kept.
    kept = {SIZE, len("hello\n")}
    eventually(lambda: set(stored(platform)) <= kept, seconds=60)


def peak_memory(pid: int) -> int:
    """Return the most resident memory that a process has had, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"the kernel tells nothing of {pid}")
