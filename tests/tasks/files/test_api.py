"""Uploading inputs and downloading artifacts by the API."""

from __future__ import annotations

import base64
import hashlib
import io
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from tasks.models import Task, TaskFile
from tasks.services.files import Artifact, artifacts_record, fill, remove_unnamed, reserve
from tests.tasks.api.work import running, submitted
from tests.tasks.files.conftest import contents
from tests.tenants.callers import Caller, World

pytestmark = pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume")

TASKS = "/api/v1/tenants/acme/tasks"
BYTES = bytes(range(256)) * 4


def allocated(caller: Caller, *names: str) -> str:
    answer = caller.post(TASKS, {"type": "test.dummy", "inputs": list(names)})
    assert answer.status_code == 201
    body = answer.json()
    assert body["status"] == "allocated"
    assert body["waiting_for"]["reason"] == "inputs"
    assert body["deadline_at"] is not None
    return str(body["links"]["self"]).removeprefix("http://testserver")


def test_uploading_and_letting_go_name_their_own_requests(acme: World) -> None:
    ci = acme.token()
    task = allocated(ci, "a")
    assert put(ci, task, "a", X_Request_ID="put").status_code == 201
    assert ci.post(f"{task}/submit", {}, X_Request_ID="go").status_code == 200
    events = ci.get(f"{task}/events").json()["results"]
    assert [event["data"].get("request_id") for event in events][1:] == ["put", "go"]


def put(caller: Caller, task: str, name: str, data: bytes = BYTES, **headers: str) -> Any:
    return caller.send(
        "PUT", f"{task}/inputs/{name}", raw=data, content_type="text/csv; header=present", **headers
    )


def test_a_task_runs_when_its_inputs_have_come(acme: World) -> None:
    ci = acme.token("tasks:read", "tasks:write")
    task = allocated(ci, "a.csv", "b.csv")
    early = ci.post(f"{task}/submit", {})
    assert (early.status_code, early.json()["missing"]) == (409, ["a.csv", "b.csv"])
    first = put(ci, task, "a.csv")
    assert first.status_code == 201
    assert first.json() | {"created_at": ""} == {
        "name": "a.csv",
        "size": 1024,
        "sha256": hashlib.sha256(BYTES).hexdigest(),
        "media_type": "text/csv",
        "created_at": "",
    }
    assert put(ci, task, "a.csv", b"better").status_code == 200
    assert ci.get(task).json()["waiting_for"]["detail"] == "Inputs to upload: b.csv."
    assert put(ci, task, "b.csv", b"").status_code == 201
    gone = ci.send("POST", f"{task}/submit", Idempotency_Key="k")
    assert (gone.status_code, gone.json()["status"]) == (200, "queued")
    assert gone.json()["deadline_at"] is None
    again = ci.send("POST", f"{task}/submit", Idempotency_Key="k")
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (200, "true")
    late = put(ci, task, "a.csv")
    assert (late.status_code, late.json()["code"]) == (409, "inputs_closed")
    assert ci.post(f"{task}/submit", {}).json()["code"] == "inputs_closed"


@pytest.mark.parametrize(
    "name",
    ["other.csv", "..", "%2e%2e%2fa.csv", "../a.csv", "a.csv%00", "%E2%80%AEvsc.a", "a.csv/", "%FF"],
)
def test_only_declared_names_are_taken(acme: World, stored: Path, name: str) -> None:
    ci = acme.token()
    answer = put(ci, allocated(ci, "a.csv"), name)
    assert answer.status_code == 404
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert contents(stored) == 0


def test_an_undeclared_name_is_told_what_the_task_takes(acme: World) -> None:
    ci = acme.token()
    answer = put(ci, allocated(ci, "a.csv"), "b.csv").json()
    assert answer["code"] == "unknown_input"
    assert "it takes a.csv" in answer["detail"]


def test_strangers_learn_nothing_and_leave_nothing(acme: World, stored: Path) -> None:
    owner = acme.token()
    task = allocated(owner, "a.csv")
    outsider = acme.token(tenant=acme.other)
    inside = task.replace("acme", "other")
    unknown = put(outsider, f"{inside[:-1]}{'0' if inside[-1] != '0' else '1'}", "a.csv")
    for answer in (put(outsider, inside, "a.csv"), put(outsider, task, "a.csv"), unknown):
        assert answer.status_code == 404
        assert answer.json()["code"] == "not_found"
    assert put(acme.anonymous(), task, "a.csv").status_code == 401
    assert put(acme.token("tasks:read"), task, "a.csv").json()["required"] == "tasks:write"
    foreign = put(acme.token("tasks:write", name="else"), task, "a.csv")
    assert (foreign.status_code, foreign.json()["code"]) == (403, "not_yours")
    assert contents(stored) == 0


def test_what_is_too_big_is_refused_whatever_it_says_of_itself(
    acme: World, stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ci = acme.token()
    task = allocated(ci, "a.csv")
    monkeypatch.setattr(
        settings, "SWITCHYARD", settings.SWITCHYARD.model_copy(update={"max_input_bytes": 1000})
    )
    answer = put(ci, task, "a.csv")
    assert (answer.status_code, answer.json()["limit"]) == (413, 1000)
    assert "1,000 bytes" in answer.json()["detail"]
    assert contents(stored) == 0
    assert ci.post(f"{task}/submit", {}).json()["missing"] == ["a.csv"]


def test_a_digest_is_checked_where_one_is_sent(acme: World, stored: Path) -> None:
    ci = acme.token()
    task = allocated(ci, "a.csv")
    right = base64.b64encode(hashlib.sha256(BYTES).digest()).decode()
    wrong = base64.b64encode(hashlib.sha256(b"").digest()).decode()
    refused = put(ci, task, "a.csv", Content_Digest=f"sha-256=:{wrong}:")
    assert (refused.status_code, refused.json()["code"]) == (400, "digest_mismatch")
    for unreadable in ("sha-256", "sha-256=:x:", "sha-256=:AAAA:", f"sha-256={right}"):
        assert put(ci, task, "a.csv", Content_Digest=unreadable).status_code == 400
    remove_unnamed()
    assert contents(stored) == 0
    assert not TaskFile.objects.exists()
    taken = put(ci, task, "a.csv", Content_Digest=f"md5=:AAAA:, sha-256=:{right}:")
    assert taken.status_code == 201


def test_compressed_and_partial_uploads_are_refused(acme: World) -> None:
    ci = acme.token()
    task = allocated(ci, "a.csv")
    assert put(ci, task, "a.csv", Content_Encoding="gzip").status_code == 415
    assert put(ci, task, "a.csv", Content_Range="bytes 0-1/2").status_code == 400


# -- artifacts ---------------------------------------------------------------------------------------


def left(task: Task, name: str, data: bytes = BYTES, media_type: str = "text/plain") -> TaskFile:
    """Let the running attempt of a task leave a file."""
    [key] = reserve()
    stored = fill(key, io.BytesIO(data).read, cap=10_000)
    artifacts_record(task.pk, task.epoch, [Artifact(name, media_type, stored)])
    return TaskFile.objects.get(task=task, name=name)


@pytest.fixture
def task(acme: World) -> Task:
    """A task whose first attempt runs."""
    made = submitted(acme.acme)
    running(made)
    return made


def test_artifacts_are_listed_and_downloaded(acme: World, task: Task) -> None:
    ci = acme.token("tasks:read")
    assert ci.get(f"{TASKS}/{task.pk}/artifacts").json()["results"] == []
    left(task, "reports/a.xml")
    left(task, "reports/b.xml", b"")
    listed = ci.get(f"{TASKS}/{task.pk}/artifacts").json()
    assert [entry["name"] for entry in listed["results"]] == ["reports/b.xml", "reports/a.xml"]
    entry = listed["results"][1]
    assert (entry["run"], entry["size"]) == (1, 1024)
    answer = ci.get(entry["links"]["self"], Accept="text/html")
    assert answer.status_code == 200
    assert b"".join(answer) == BYTES
    assert answer.headers["Content-Length"] == "1024"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="a.xml"'
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert b"".join(ci.get(listed["results"][0]["links"]["self"])) == b""


def test_head_tells_of_the_bytes_without_sending_them(acme: World, task: Task) -> None:
    file = left(task, "a")
    answer = acme.token().send("HEAD", f"{TASKS}/{task.pk}/artifacts/{file.pk}")
    assert (answer.status_code, answer.headers["Content-Length"]) == (200, "1024")
    assert answer.content == b""


@pytest.mark.parametrize(
    ("asked", "status", "told", "data"),
    [
        ("bytes=0-9", 206, "bytes 0-9/1024", BYTES[:10]),
        ("bytes=1000-", 206, "bytes 1000-1023/1024", BYTES[1000:]),
        ("bytes=1000-9999", 206, "bytes 1000-1023/1024", BYTES[1000:]),
        ("bytes=-5", 206, "bytes 1019-1023/1024", BYTES[-5:]),
        ("bytes=-9999", 206, "bytes 0-1023/1024", BYTES),
        ("bytes=1024-", 416, "bytes */1024", None),
        ("bytes=-0", 416, "bytes */1024", None),
        ("bytes=9-1", 200, None, BYTES),
        ("bytes=0-1,5-6", 200, None, BYTES),
        ("lines=1-2", 200, None, BYTES),
        ("bytes=١-٢", 200, None, BYTES),
    ],
)
def test_ranges(
    acme: World, task: Task, asked: str, status: int, told: str | None, data: bytes | None
) -> None:
    file = left(task, "a")
    answer = acme.token().get(f"{TASKS}/{task.pk}/artifacts/{file.pk}", Range=asked)
    assert answer.status_code == status
    assert answer.headers.get("Content-Range") == told
    if data is not None:
        assert b"".join(answer) == data


def test_a_range_of_another_version_is_not_given(acme: World, task: Task) -> None:
    file = left(task, "a")
    path = f"{TASKS}/{task.pk}/artifacts/{file.pk}"
    ci = acme.token()
    assert ci.get(path, Range="bytes=0-1", If_Range='"older"').status_code == 200
    assert ci.get(path, Range="bytes=0-1", If_Range=f'"{file.sha256}"').status_code == 206
    assert ci.get(path, If_None_Match=f'"{file.sha256}"').status_code == 304


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ('say "hi"\\.txt', 'attachment; filename="say \\"hi\\"\\\\.txt"'),
        ("naïve.txt", "attachment; filename*=utf-8''na%C3%AFve.txt"),
        ("a\r\nSet-Cookie: x=1", 'attachment; filename="a__Set-Cookie: x=1"'),
        ("gpj.\u202eexe", 'attachment; filename="gpj._exe"'),
        ("folder/", 'attachment; filename="artifact"'),
    ],
)
def test_the_name_of_a_download_commands_nothing(acme: World, task: Task, name: str, told: str) -> None:
    file = left(task, name)
    answer = acme.token().get(f"{TASKS}/{task.pk}/artifacts/{file.pk}")
    assert answer.status_code == 200
    assert answer.headers["Content-Disposition"] == told
    assert "Set-Cookie" not in answer.headers


def test_another_tenants_artifact_is_as_unknown_as_any(acme: World, task: Task) -> None:
    file = left(task, "a")
    mine = submitted(acme.acme)
    outsider = acme.token(tenant=acme.other)
    ids = f"{task.pk}/artifacts/{file.pk}"
    bodies = []
    for caller, path in (
        (outsider, f"/api/v1/tenants/other/tasks/{ids}"),
        (outsider, f"{TASKS}/{ids}"),
        (acme.token(), f"{TASKS}/{mine.pk}/artifacts/{file.pk}"),
        (acme.token(), f"{TASKS}/{task.pk}/artifacts/{task.pk}"),
        (acme.token(), f"{TASKS}/{task.pk}/artifacts/passwd"),
    ):
        answer = caller.get(path)
        assert answer.status_code == 404
        bodies.append({**answer.json(), "instance": ""})
    assert all(body == bodies[0] for body in bodies)


def test_content_that_is_gone_is_told_as_such(acme: World, task: Task, stored: Path) -> None:
    file = left(task, "a")
    (stored / file.storage_key).unlink()
    answer = acme.token().get(f"{TASKS}/{task.pk}/artifacts/{file.pk}")
    assert (answer.status_code, answer.json()["code"]) == (404, "content_gone")
