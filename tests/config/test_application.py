"""What the whole ASGI application answers to requests that no view gets to see."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from django.conf import settings

from config.asgi import application
from rest import body_limit
from rest.body_limit import Receive

TASK = "/api/v1/tenants/acme/tasks/01890000-0000-7000-8000-000000000000"
# A synchronous view, an asynchronous one, a stream, an upload, a page, and what is not there.
PLACES: list[tuple[str, str, dict[str, str]]] = [
    ("GET", "/api/v1/me", {}),
    ("GET", "/health/live", {}),
    ("GET", f"{TASK}/events", {"Accept": "text/event-stream"}),
    ("PUT", f"{TASK}/inputs/a", {}),
    ("GET", "/", {"Accept": "text/html"}),
    ("GET", "/api/v1/nowhere", {}),
]
MANY_FIELDS = b"&".join(b"a=1" for _ in range(1100))


async def ask(
    method: str,
    path: str,
    headers: dict[str, str],
    *,
    query: bytes = b"",
    body: bytes = b"",
    receive: Receive | None = None,
) -> tuple[int, dict[str, str], bytes]:
    """Send one request; gives status, headers with names in small letters, and body."""
    sent: list[Any] = []
    shown = [body]

    async def whole() -> Any:
        while not shown:  # a client that sends nothing more
            await asyncio.Event().wait()
        return {"type": "http.request", "body": shown.pop(), "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "scheme": "http",
        "path": path,
        "query_string": query,
        "headers": [
            (name.lower().encode(), value.encode("latin-1"))
            for name, value in {"Host": "testserver", **headers}.items()
        ],
    }
    await application(scope, receive or whole, send)
    named = {name.decode().lower(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], named, b"".join(message.get("body", b"") for message in sent[1:])


def check_problem(
    answer: tuple[int, dict[str, str], bytes], status: int, request_id: str
) -> dict[str, Any]:
    """Check that an answer is a whole problem of this status and request; return it."""
    got, headers, body = answer
    assert (got, headers["content-type"]) == (status, "application/problem+json")
    problem: dict[str, Any] = json.loads(body)
    assert {"type", "title", "status", "detail", "code", "instance"} <= set(problem)
    assert headers["x-request-id"] == problem["instance"] == request_id
    return problem


@pytest.mark.parametrize(("method", "path", "headers"), PLACES)
@pytest.mark.parametrize(
    ("content_type", "query", "pointer"),
    [
        ("application/json; x*=nope''a", b"", "header:Content-Type"),
        ("application/json; charset*=utf-99''x", b"", "header:Content-Type"),
        ("application/json; 0*1; 0*=", b"", "header:Content-Type"),
        ("application/json", b"a=\xff", "query:"),
    ],
)
async def test_a_head_that_cannot_be_read_is_a_400(
    method: str, path: str, headers: dict[str, str], content_type: str, query: bytes, pointer: str
) -> None:
    given = {**headers, "Content-Type": content_type, "X-Request-ID": "mine"}
    problem = check_problem(await ask(method, path, given, query=query), 400, "mine")
    assert [error["pointer"] for error in problem["errors"]] == [pointer]


@pytest.mark.parametrize(("method", "path", "headers"), PLACES)
async def test_a_charset_makes_nothing_of_many_parameters_that_they_are_not_without(
    method: str, path: str, headers: dict[str, str]
) -> None:
    seen = []
    for content_type in ("application/json", "application/json; charset=utf-8"):
        given = {**headers, "Content-Type": content_type, "X-Request-ID": "mine"}
        status, answered, _ = await ask(method, path, given, query=MANY_FIELDS)
        seen.append((status, answered["x-request-id"]))
    assert seen[0] == seen[1]
    assert seen[0][0] < 500


@pytest.mark.parametrize("charset", ["hex", "rot13", "idna", "utf-16", "utf-99"])
async def test_a_form_is_utf_8_whatever_it_says(charset: str) -> None:
    form = b'--x\r\nContent-Disposition: form-data; name="login"\r\n\r\nbob\r\n--x--\r\n'
    headers = {
        "Content-Type": f"multipart/form-data; boundary=x; charset={charset}",
        "Content-Length": str(len(form)),
        "Cookie": f"switchyard_csrf={'a' * 32}",
    }
    assert (await ask("POST", "/login", headers, body=form))[0] == 403


async def test_an_answer_without_a_request_has_an_id_that_is_harmless() -> None:
    for offered in ({}, {"X-Request-ID": "a b"}):
        answer = await ask("GET", "/api/v1/me", {"Content-Type": "a/b; x*=nope''a", **offered})
        assert len(answer[1]["x-request-id"]) == 36
        check_problem(answer, 400, answer[1]["x-request-id"])


@pytest.mark.parametrize("offered", [{"X-Request-ID": "mine"}, {}])
async def test_a_body_that_is_cut_off_is_a_whole_413(offered: dict[str, str]) -> None:
    limit = settings.SWITCHYARD.max_body_bytes
    answer = await ask("POST", "/api/v1/me", offered, body=b"x" * (limit + 2))
    problem = check_problem(answer, 413, offered.get("X-Request-ID") or answer[1]["x-request-id"])
    assert len(problem["instance"]) == (4 if offered else 36)
    assert problem["limit"] == limit
    assert str(limit) in problem["detail"]
    assert answer[1]["connection"] == "close"


@pytest.mark.parametrize("more", [b"", b"x"])
async def test_a_body_that_does_not_come_is_a_408(monkeypatch: pytest.MonkeyPatch, more: bytes) -> None:
    monkeypatch.setattr(body_limit, "BODY_SECONDS", 0.3)

    async def dripping() -> Any:
        await asyncio.sleep(0.1 if more else 60)
        return {"type": "http.request", "body": more, "more_body": True}

    async with asyncio.timeout(5):
        answer = await ask("POST", "/api/v1/me", {"X-Request-ID": "mine"}, receive=dripping)
    assert check_problem(answer, 408, "mine")["code"] == "too_slow"
    assert answer[1]["connection"] == "close"


async def test_a_client_that_waits_for_a_stream_may_take_its_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(body_limit, "BODY_SECONDS", 0.05)
    seen = []

    async def patient(_scope: Any, receive: Any, _send: Any) -> None:
        seen.append(await receive())
        seen.append(await receive())

    async def receive() -> Any:
        if not seen:
            return {"type": "http.request", "body": b"", "more_body": False}
        await asyncio.sleep(0.3)
        return {"type": "http.disconnect"}

    await body_limit.BodyLimit(patient, 10)({"type": "http"}, receive, receive)  # type: ignore[arg-type]
    assert [message["type"] for message in seen] == ["http.request", "http.disconnect"]


async def test_a_body_that_comes_slowly_but_steadily_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_limit, "BODY_SECONDS", 0.2)
    left = [b"x" * 2048] * 5

    async def steady() -> Any:
        await asyncio.sleep(0.1)
        return {"type": "http.request", "body": left.pop(), "more_body": bool(left)}

    status, _, _ = await ask("POST", "/api/v1/me", {}, receive=steady)
    assert status == 401
