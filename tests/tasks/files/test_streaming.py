"""Uploads as the server gives them: drawn by the view, piece by piece, after it knows the caller."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from config.asgi import application
from rest import streamed_body
from rest.body_limit import Message
from rest.streamed_body import StreamedBody
from tasks.models import TaskFile
from tasks.services.files import remove_unnamed
from tests.tasks.api.work import publish_types
from tests.tasks.files.conftest import contents
from tests.tenants.callers import Caller, World

MIB = 1024 * 1024
PIECE = b"x" * 64 * 1024


class Upload:
    """One request over ASGI; ``pieces`` may end with None: the connection is cut there."""

    def __init__(self, path: str, headers: dict[str, str], pieces: Iterator[bytes | None]) -> None:
        self._pieces = pieces
        self.drawn = 0
        self.status = 0
        self.body: dict[str, Any] = {}
        self.scope: dict[str, Any] = {
            "type": "http",
            "http_version": "1.1",
            "method": "PUT",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "server": ("testserver", 80),
            "client": ("127.0.0.1", 1),
            "headers": [
                (name.lower().encode(), value.encode())
                for name, value in {"Host": "testserver", **headers}.items()
            ],
        }

    def sent(self) -> Upload:
        asyncio.run(application(self.scope, self._receive, self._send))
        return self

    async def _receive(self) -> Message:
        for piece in self._pieces:
            if piece is None:
                return {"type": "http.disconnect"}
            self.drawn += len(piece)
            return {"type": "http.request", "body": piece, "more_body": True}
        return {"type": "http.request", "body": b"", "more_body": False}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        elif message.get("body"):
            self.body = json.loads(message["body"])


def allocated(world: World) -> tuple[Caller, str]:
    publish_types()
    ci = world.token()
    made = ci.post("/api/v1/tenants/acme/tasks", {"type": "test.dummy", "inputs": ["a"]}).json()
    return ci, f"/api/v1/tenants/acme/tasks/{made['id']}/inputs/a"


def pieces(count: int, *end: None) -> Iterator[bytes | None]:
    for _ in range(count):
        yield PIECE
    yield from end


def test_an_upload_larger_than_any_body_is_streamed(lasting_world: World, stored: Path) -> None:
    ci, path = allocated(lasting_world)
    upload = Upload(path, ci.headers, pieces(64)).sent()
    assert (upload.status, upload.body["size"]) == (201, 4 * MIB)
    assert (stored / TaskFile.objects.get().storage_key).stat().st_size == 4 * MIB


def test_of_a_stranger_not_one_byte_is_drawn(lasting_world: World, stored: Path) -> None:
    _, path = allocated(lasting_world)
    other = lasting_world.token(tenant=lasting_world.other)
    for headers, status in (({}, 401), (other.headers, 404)):
        upload = Upload(path, headers, pieces(64)).sent()
        assert (upload.status, upload.drawn) == (status, 0)
    assert contents(stored) == 0


def test_a_connection_that_is_cut_leaves_no_input(lasting_world: World, stored: Path) -> None:
    ci, path = allocated(lasting_world)
    upload = Upload(path, ci.headers, pieces(20, None)).sent()
    assert (upload.status, upload.body["code"]) == (400, "incomplete_body")
    assert not TaskFile.objects.exists()
    # What had come is removed with the next round, not in a day.
    assert remove_unnamed() == 1
    assert contents(stored) == 0


def test_an_upload_that_never_ends_is_cut_off(
    lasting_world: World, stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streamed_body, "SILENCE_SECONDS", 0.3)
    ci, path = allocated(lasting_world)

    def drip() -> Iterator[bytes]:
        while True:
            time.sleep(0.05)  # a client that is never silent for long
            yield b"x"

    began = time.monotonic()
    upload = Upload(path, ci.headers, drip()).sent()
    assert time.monotonic() - began < 5
    assert (upload.status, upload.body["code"]) == (400, "incomplete_body")
    assert "4,096 bytes a second" in upload.body["detail"]


def test_only_uploads_are_exempt_from_the_body_limit(lasting_world: World) -> None:
    ci, path = allocated(lasting_world)
    for other in (path.removesuffix("/inputs/a"), f"{path}/b", "/api/v1/me"):
        upload = Upload(other, ci.headers, pieces(64)).sent()
        assert upload.status == 413
        assert "`inputs`" in upload.body["detail"]
        assert upload.drawn <= 2 * MIB


def test_a_slow_upload_holds_no_database_connection(
    lasting_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[bool] = []
    read = StreamedBody.read

    def watched(body: StreamedBody, size: int) -> bytes:
        held.append(connection.connection is not None)
        return read(body, size)

    monkeypatch.setattr(StreamedBody, "read", watched)
    ci, path = allocated(lasting_world)
    assert Upload(path, ci.headers, pieces(8)).sent().status == 201
    assert held
    assert not any(held)
