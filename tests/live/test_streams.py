"""``text/event-stream`` on events and log."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from django.conf import settings
from django.db import connection

from tenants.actor import SYSTEM
from tenants.services import token_revoke
from tests.live.scene import Job, Web, submitted, token_of
from tests.tenants.callers import World


@dataclass
class Message:
    """One server-sent event."""

    id: str | None
    event: str | None
    data: dict[str, Any]


def address(web: Web, job: Job, what: str, query: str = "", *, tenant: str = "acme") -> str:
    return f"{web.url}/api/v1/tenants/{tenant}/tasks/{job.id}/{what}{query}"


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@contextmanager
def listening(url: str, headers: dict[str, str], **options: Any) -> Iterator[Iterator[Message | str]]:
    """Open a stream; comments come as text, messages as :class:`Message`."""
    with (
        httpx2.Client(trust_env=False, timeout=10) as client,
        client.stream("GET", url, headers={"Accept": "text/event-stream", **headers}) as answer,
    ):
        assert answer.status_code == 200, answer.read()
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        yield messages(answer.iter_lines())


def messages(lines: Iterator[str]) -> Iterator[Message | str]:
    fields: dict[str, str] = {}
    for line in lines:
        if line.startswith(":"):
            yield line
        elif line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif "data" in fields:
            yield Message(fields.get("id"), fields.get("event"), json.loads(fields["data"]))
            fields = {}
        else:
            fields = {}


def test_a_stream_replays_follows_and_ends(web: Web, lasting_world: World, token: str) -> None:
    job = submitted(lasting_world.acme)
    with listening(address(web, job, "events"), bearer(token)) as stream:
        assert next(stream).data["data"]["status"] == "queued"
        job.run().print("hello")
        job.complete()
        rest = list(stream)
    assert [message.id for message in rest] == ["2", "3", "4", "4"]
    assert rest[1].data["data"]["lines"][0]["text"] == "hello"
    assert rest[-1].event == "end"
    assert rest[-1].data == {"kind": "end", "status": "completed", "seq": 4}


def test_a_task_whose_history_is_no_longer_kept_ends_at_once(
    web: Web, lasting_world: World, token: str
) -> None:
    job = submitted(lasting_world.acme).run()
    job.print("one")
    job.complete()
    with connection.cursor() as cursor:  # what dropping its months leaves
        cursor.execute("DELETE FROM event WHERE task_id = %s", [job.id])
        cursor.execute("DELETE FROM log_chunk WHERE task_id = %s", [job.id])
    with listening(address(web, job, "events"), bearer(token)) as stream:
        (end,) = stream
    assert end.data == {"kind": "end", "status": "completed", "seq": 4}


def test_last_event_id_wins_over_after(web: Web, lasting_world: World, token: str) -> None:
    job = submitted(lasting_world.acme).run()
    job.print("one")
    job.complete()
    headers = {**bearer(token), "Last-Event-ID": "3"}
    with listening(address(web, job, "events", "?after=0"), headers) as stream:
        assert [message.id for message in stream] == ["4", "4"]
    with listening(address(web, job, "events", "?after=2"), bearer(token)) as stream:
        assert [message.id for message in stream] == ["3", "4", "4"]


def test_a_log_stream_has_the_lines_of_the_streams_asked_for(
    web: Web, lasting_world: World, token: str
) -> None:
    job = submitted(lasting_world.acme).run()
    job.print("out")
    job.print("err", stream="stderr")
    job.complete()
    with listening(address(web, job, "log", "?stream=stderr"), bearer(token)) as stream:
        told = list(stream)
    assert [message.data["kind"] for message in told] == ["log", "end"]
    assert told[0].data["data"]["lines"][0]["text"] == "err"
    with listening(address(web, job, "log", "?run=2"), bearer(token)) as stream:
        assert [message.data["kind"] for message in stream] == ["end"]


def lines_told(web: Web, job: Job, token: str, query: str, **headers: str) -> list[tuple[str, str]]:
    """Return the lines of a log stream that has ended, each with the number of its event."""
    with listening(address(web, job, "log", query), {**bearer(token), **headers}) as stream:
        *told, end = stream
    assert end.event == "end"
    return [(message.id, line["text"]) for message in told for line in message.data["data"]["lines"]]


def test_a_log_stream_takes_the_filters_that_its_page_takes(
    web: Web, lasting_world: World, token: str
) -> None:
    job = submitted(lasting_world.acme).run()
    job.print("One", "two")
    job.print("three", "four", stream="stderr")
    job.complete()
    assert lines_told(web, job, token, "?q=o") == [("3", "One"), ("3", "two"), ("4", "four")]
    assert lines_told(web, job, token, "?q=ONE&stream=stdout") == [("3", "One")]
    assert lines_told(web, job, token, "?q=five") == []
    with httpx2.Client(trust_env=False, headers=bearer(token)) as client:
        rows = client.get(address(web, job, "log")).json()["results"]
    for query in (f"from={rows[1]['at']}&to={rows[1]['at']}", f"to={rows[1]['at']}"):
        with httpx2.Client(trust_env=False, headers=bearer(token)) as client:
            page = client.get(address(web, job, "log", f"?{query}")).json()["results"]
        told = lines_told(web, job, token, f"?{query}")
        assert told == [(str(row["seq"]), row["text"]) for row in page]
        assert ("3", "two") in told
    assert lines_told(web, job, token, "?from=2100-01-01T00:00:00Z") == []


def test_a_log_stream_goes_on_where_a_page_ended(web: Web, lasting_world: World, token: str) -> None:
    job = submitted(lasting_world.acme).run()
    job.print("one", "two", "three")
    job.print("four")
    job.complete()
    with httpx2.Client(trust_env=False, headers=bearer(token)) as client:
        following = client.get(address(web, job, "log", "?limit=2")).json()["next"]
    position = parse_qs(urlsplit(following).query)["after"][0]
    assert position == "3.2"
    assert lines_told(web, job, token, f"?after={position}") == [("3", "three"), ("4", "four")]
    assert lines_told(web, job, token, "?after=3.3") == [("4", "four")]
    assert lines_told(web, job, token, "?after=3") == [("4", "four")]
    # A browser that reconnects repeats the address; of the event that it names it has all lines.
    assert lines_told(web, job, token, "?after=3.1", **{"Last-Event-ID": "3"}) == [("4", "four")]
    for wrong in ("3.0", "3.", "99.1", "x"):
        answer = refused(address(web, job, "log", f"?after={wrong}"), bearer(token))
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (400, "query:after")


def test_a_quiet_stream_shows_that_it_lives(
    impatient_web: Web, lasting_world: World, token: str
) -> None:
    job = submitted(lasting_world.acme)
    with listening(address(impatient_web, job, "events", "?after=1"), bearer(token)) as stream:
        assert next(stream) == ": still here"


def test_without_asking_for_a_stream_the_answer_is_a_page(
    web: Web, lasting_world: World, token: str
) -> None:
    job = submitted(lasting_world.acme).run()
    job.print("hello")
    with httpx2.Client(trust_env=False, headers=bearer(token)) as client:
        assert len(client.get(address(web, job, "events")).json()["results"]) == 3
        text = client.get(address(web, job, "log"), headers={"Accept": "text/plain"})
        assert text.text == "hello\n"
        refused = client.get(address(web, job, "log"), headers={"Accept": "image/png"})
        assert refused.status_code == 406
        assert client.post(address(web, job, "events"), json={}).status_code == 405


@pytest.mark.parametrize(
    "query", ["?after=-1", "?after=x", "?after=99", "?limit=5", "?kinds=x", "?before=1"]
)
def test_a_wrong_parameter_is_400(web: Web, lasting_world: World, token: str, query: str) -> None:
    job = submitted(lasting_world.acme)
    answer = refused(address(web, job, "events", query), bearer(token))
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["pointer"].startswith("query:")


def test_refusals_are_those_of_the_api(web: Web, lasting_world: World, token: str) -> None:
    job = submitted(lasting_world.acme)
    foreign = submitted(lasting_world.other)
    _, narrow = token_of(lasting_world.acme, "kv:read")
    url = address(web, job, "events")
    for status, code, answer in (
        (401, "not_authenticated", refused(url, {})),
        (401, "invalid_token", refused(url, bearer("sy_nonsense"))),
        (403, "scope_required", refused(url, bearer(narrow))),
        (404, "not_found", refused(address(web, foreign, "events"), bearer(token))),
        (404, "not_found", refused(address(web, foreign, "log", tenant="other"), bearer(token))),
    ):
        assert answer.status_code == status
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json()["code"] == code


def refused(url: str, headers: dict[str, str]) -> httpx2.Response:
    return httpx2.get(url, headers={"Accept": "text/event-stream", **headers}, trust_env=False)


def test_a_session_may_follow_too(web: Web, lasting_world: World) -> None:
    job = submitted(lasting_world.acme).run()
    job.complete()
    browser = lasting_world.user("bob").client
    key = browser.cookies[settings.SESSION_COOKIE_NAME].value
    headers = {"Cookie": f"{settings.SESSION_COOKIE_NAME}={key}"}
    with listening(address(web, job, "events"), headers) as stream:
        assert [message.id for message in stream] == ["1", "2", "3", "3"]


def test_a_revoked_token_ends_its_stream(impatient_web: Web, lasting_world: World) -> None:
    job = submitted(lasting_world.acme).run()
    row, raw = token_of(lasting_world.acme)
    with listening(address(impatient_web, job, "events", "?after=2"), bearer(raw)) as stream:
        token_revoke(actor=SYSTEM, token=row)
        assert [message for message in stream if isinstance(message, Message)] == []
