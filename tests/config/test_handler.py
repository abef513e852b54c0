"""Which thread a request is answered in: one for a synchronous view, none that is kept for others."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.core import signals

from config import handler
from config.handler import Handler

TASK = "/api/v1/tenants/acme/tasks/01890000-0000-7000-8000-000000000000"


@pytest.fixture
def threads() -> Iterator[list[str]]:
    """Where each request began and ended: the names of the threads."""
    seen: list[str] = []

    def note(**_: Any) -> None:
        seen.append(threading.current_thread().name)

    for signal in (signals.request_started, signals.request_finished):
        signal.connect(note, weak=False, dispatch_uid="test_handler")
    yield seen
    for signal in (signals.request_started, signals.request_finished):
        signal.disconnect(dispatch_uid="test_handler")


async def ask(path: str, **headers: str) -> tuple[int, dict[bytes, bytes], bytes]:
    """Send a GET through the handler; gives status, headers and body."""
    sent: list[Any] = []
    shown = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> Any:
        while not shown:  # a client that sends nothing more
            await asyncio.Event().wait()
        return shown.pop()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "query_string": b"",
        "headers": [
            (b"host", b"testserver"),
            *((name.lower().encode(), value.encode()) for name, value in headers.items()),
        ],
    }
    await Handler()(scope, receive, send)
    body = b"".join(message.get("body", b"") for message in sent[1:])
    return sent[0]["status"], dict(sent[0]["headers"]), body


async def test_a_synchronous_request_begins_and_ends_in_one_kept_thread(threads: list[str]) -> None:
    status, headers, body = await ask("/api/v1/me")
    assert status == 401
    assert json.loads(body)["status"] == 401
    assert headers[b"X-Request-ID"]
    assert len(threads) == 2
    assert threads[0] == threads[1]
    assert threads[0].startswith("request")


async def test_what_leads_nowhere_is_answered_by_the_same_chain(threads: list[str]) -> None:
    status, headers, _ = await ask("/api/v1/nowhere")
    assert (status, headers[b"Content-Type"]) == (404, b"application/problem+json")
    assert threads[0].startswith("request")


async def test_an_asynchronous_view_holds_no_kept_thread(threads: list[str]) -> None:
    assert (await ask("/health/live"))[0] == 200
    assert not any(name.startswith("request") for name in threads)


async def test_a_page_of_events_takes_the_short_way_and_a_stream_does_not(threads: list[str]) -> None:
    assert (await ask(f"{TASK}/events"))[0] == 401
    assert all(name.startswith("request") for name in threads)
    threads.clear()
    assert (await ask(f"{TASK}/events", Accept="text/event-stream"))[0] == 401
    assert not any(name.startswith("request") for name in threads)


async def test_a_file_is_streamed_whole(threads: list[str]) -> None:
    status, headers, body = await ask("/static/admin/css/base.css")
    assert status == 200
    assert len(body) == int(headers[b"Content-Length"]) > 1000


async def test_an_address_is_looked_up_once_unless_it_is_long() -> None:
    handler._found.cache_clear()
    for _ in range(2):
        assert (await ask("/api/v1/me"))[0] == 401
        assert (await ask(f"/admin/{'a' * 300}/"))[0] == 302  # the admin answers for all below it
    kept = handler._found.cache_info()
    assert (kept.hits, kept.currsize) == (1, 1)
