"""The way out of a `full` sandbox, through the supervisor's proxy alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.workers.sandbox.running import Finished
from workers.sandbox import Level
from workers.sandbox.egress import route

Run = Callable[..., Finished]


class Answering(BaseHTTPRequestHandler):
    """Echoes; /away redirects to an address that is closed."""

    def do_GET(self) -> None:
        self.send_response(302 if self.path == "/away" else 200)
        if self.path == "/away":
            self.send_header("Location", "http://169.254.169.254/latest/meta-data/")
        body = b"x" * 300000 if self.path == "/large" else f"hello {self.path}".encode()
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[str]:
    serving = ThreadingHTTPServer(("127.0.0.2", 0), Answering)
    threading.Thread(target=serving.serve_forever, daemon=True).start()
    yield f"http://127.0.0.2:{serving.server_port}"
    serving.shutdown()
    serving.server_close()


REQUEST = "workers.handlers.http:send"


def test_an_allowed_network_is_reached(level: Level, run: Run, server: str) -> None:
    finished = run(
        level, REQUEST, {"url": f"{server}/a?b=1"}, network=True, egress_allow=("127.0.0.0/8",)
    )
    data = finished.messages[-1]["data"]
    assert (data["status"], data["body"], data["truncated"]) == (200, "hello /a?b=1", False)


def test_a_private_address_is_refused_by_name(level: Level, run: Run, server: str) -> None:
    (error,) = run(level, REQUEST, {"url": server}, network=True).messages
    assert error["code"] == "address_refused"


def test_a_service_of_the_platform_is_closed_even_where_its_network_is_open(
    run: Run, server: str
) -> None:
    port = int(server.rpartition(":")[2])
    opened = {"network": True, "egress_allow": ("127.0.0.0/8",), "egress_deny": (("127.0.0.2", port),)}
    (error,) = run(Level.FULL, REQUEST, {"url": server}, **opened).messages
    assert error["code"] == "address_refused"


def test_a_redirect_to_a_closed_address_is_refused(level: Level, run: Run, server: str) -> None:
    params = {"url": f"{server}/away"}
    (error,) = run(level, REQUEST, params, network=True, egress_allow=("127.0.0.0/8",)).messages
    assert error["code"] == "address_refused"


def test_a_long_body_is_cut_and_said_to_be(level: Level, run: Run, server: str) -> None:
    params = {"url": f"{server}/large"}
    finished = run(level, REQUEST, params, network=True, egress_allow=("127.0.0.0/8",))
    data = finished.messages[-1]["data"]
    assert (len(data["body"]), data["truncated"]) == (262144, True)


def test_an_unexpected_status_is_an_error_with_the_answer(level: Level, run: Run, server: str) -> None:
    params = {"url": server, "expect_status": [204]}
    (error,) = run(level, REQUEST, params, network=True, egress_allow=("127.0.0.0/8",)).messages
    assert (error["code"], error["detail"]["status"]) == ("unexpected_status", 200)


def test_programs_find_the_proxy_in_their_environment(run: Run, server: str, level: Level) -> None:
    if level is not Level.FULL:
        pytest.skip("only full has a proxy")
    fetch = "import urllib.request as r; print(r.urlopen(%r).read().decode())"
    argv = ("python3", "-c", fetch % f"{server}/p")
    finished = run(level, argv=argv, network=True, egress_allow=("127.0.0.0/8",))
    assert finished.stdout == "hello /p\n", finished.stderr


@pytest.mark.parametrize(
    ("head", "target"),
    [
        (b"CONNECT a.example:443 HTTP/1.1", ("a.example", 443)),
        (b"CONNECT [2606::1]:443 HTTP/1.1", ("2606::1", 443)),
        (b"GET http://a.example/x HTTP/1.1", ("a.example", 80)),
        (
            b"GET http://a.example:8080/x?y HTTP/1.1\r\nProxy-Authorization: x\r\nA: b",
            ("a.example", 8080),
        ),
    ],
)
def test_a_proxy_request_names_its_target(head: bytes, target: tuple[str, int]) -> None:
    host, port, opening = route(head)
    assert (host, port) == target
    assert b"Proxy-" not in opening


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"GET /x HTTP/1.1",
        b"GET ftp://a/x HTTP/1.1",
        b"CONNECT a.example HTTP/1.1",
        b"CONNECT a.example:99999 HTTP/1.1",
        b"\x16\x03\x01\x02",
        b"GET http:///x HTTP/1.1",
        b"GET http://a/x HTTP/2",
        b"GET http://[::1/x HTTP/1.1",
    ],
)
def test_what_is_no_proxy_request_is_refused(head: bytes) -> None:
    with pytest.raises(ValueError):
        route(head)
