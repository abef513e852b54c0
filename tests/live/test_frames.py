"""What clients say: limited in form, size and number; the web server's own limits included."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

from ops.up.serve import PING_SECONDS, PONG_SECONDS
from tests.live.scene import Web, close_code, dial, hear, submitted, task_path, web_process
from tests.tenants.callers import World


@pytest.fixture
def path(lasting_world: World) -> str:
    """A running task's socket."""
    return task_path(submitted(lasting_world.acme).run())


def test_a_ping_is_answered(web: Web, path: str, token: str) -> None:
    with dial(web, path, token) as client:
        hear(client)
        client.send('{"kind": "ping"}')
        assert hear(client) == {"kind": "pong"}


@pytest.mark.parametrize("text", ["not json", "", "7", '"x"', "[]", "null", "{"])
def test_a_frame_that_is_no_object_gets_an_error_and_the_third_one_closes(
    web: Web, path: str, token: str, text: str
) -> None:
    with dial(web, path, token) as client:
        hear(client)
        for _ in range(2):
            client.send(text)
            assert hear(client)["kind"] == "error"
        client.send(text)
        assert close_code(client) == 4400


def test_an_unknown_kind_gets_an_error_and_stays(web: Web, path: str, token: str) -> None:
    with dial(web, path, token) as client:
        hear(client)
        for _ in range(5):
            client.send('{"type": "task.event"}')
            assert hear(client)["code"] == "unknown_kind"


@pytest.mark.parametrize(
    "text", ['{"a": NaN}', '{"a": "\\ud800"}', '{"a": "\\u0000"}', '{"a": "\x00"}', "NaN"]
)
def test_what_no_json_library_writes_closes_at_once(web: Web, path: str, token: str, text: str) -> None:
    with dial(web, path, token) as client:
        hear(client)
        client.send(text)
        assert close_code(client) == 4400


def test_a_binary_frame_closes(web: Web, path: str, token: str) -> None:
    with dial(web, path, token) as client:
        hear(client)
        client.send(b"{}")
        assert close_code(client) == 1003


@pytest.mark.parametrize("size", [64 * 1024 + 1, 20 * 1024 * 1024])
def test_a_frame_over_64_kib_closes(web: Web, path: str, token: str, size: int) -> None:
    with dial(web, path, token, compression=None) as client:
        hear(client)
        with suppress(ConnectionClosed):
            client.send("x" * size)
        assert close_code(client) == 1009


def test_a_hundred_messages_a_second_close(web: Web, path: str, token: str) -> None:
    with dial(web, path, token) as client:
        hear(client)
        with suppress(ConnectionClosed):
            for _ in range(100):
                client.send('{"kind": "ping"}')
        with suppress(ConnectionClosed):
            close_code(client)
        assert client.close_code == 4429


def test_a_client_that_answers_no_ping_is_closed(
    lasting_world: World, path: str, token: str, tmp_path: Path
) -> None:
    pings = {"ping": 0.5, "pong": 0.5}
    with web_process(tmp_path, pings=pings) as web, deaf_client(web, path, token) as deaf:
        deaf.settimeout(10)
        while deaf.recv(4096):
            pass


def test_without_a_pong_a_socket_is_closed_within_a_minute() -> None:
    assert PING_SECONDS + PONG_SECONDS < 60


@contextmanager
def deaf_client(web: Web, path: str, token: str) -> Iterator[socket.socket]:
    """Open a socket by hand, as a client that never answers would."""
    with socket.create_connection(("127.0.0.1", web.port)) as raw:
        raw.sendall(
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        assert raw.recv(4096).startswith(b"HTTP/1.1 101")
        yield raw
