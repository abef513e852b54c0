"""``/tasks/{id}/events`` and ``/log``: pages and plain text."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest
from asgiref.sync import async_to_sync
from django.test import AsyncClient

from rest.times import rfc3339
from tasks.models import Task
from tasks.services.append import Progress, append
from tasks.states import RunStatus
from tests.tasks.api.work import ended, lines, publish_types, running, submitted
from tests.tenants.callers import Caller, World

TASKS = "/api/v1/tenants/acme/tasks"
AT = datetime(2026, 11, 21, 10, 0, tzinfo=UTC)


@pytest.fixture
def talkative(acme: World) -> Task:
    """A task whose run printed five lines on two streams, with progress in between."""
    return ended(
        submitted(acme.acme),
        RunStatus.COMPLETED,
        lines(AT, "one", "two 100%", first=1),
        Progress(AT, 40.5, "linting"),
        lines(AT + timedelta(seconds=1), "Oops", stream="stderr", first=3),
        lines(AT + timedelta(seconds=2), "four", "fünf", first=4),
    )


def walk(caller: Caller, path: str) -> list[Any]:
    rows = []
    link: str | None = path
    while link:
        page = caller.get(link).json()
        assert page["previous"] is None
        rows += page["results"]
        link = page["next"]
    return rows


@pytest.mark.parametrize("what", ["events", "log"])
def test_the_next_page_is_at_the_public_address(acme: World, talkative: Task, what: str) -> None:
    path = f"{TASKS}/{talkative.pk}/{what}?limit=1"
    link = acme.token().get(path, Host="127.0.0.1:8000").json()["next"]
    assert link.startswith(f"http://testserver{path}&after=")


def test_events_come_in_order_without_a_gap_and_tell_the_story(acme: World, talkative: Task) -> None:
    frames = walk(acme.token(), f"{TASKS}/{talkative.pk}/events?limit=2")
    assert [frame["seq"] for frame in frames] == list(range(1, talkative.last_seq + 1))
    assert [frame["kind"] for frame in frames] == [
        *("state", "state", "log", "progress", "log", "log", "state"),
    ]
    assert [frame["run"] for frame in frames] == [None, 1, 1, 1, 1, 1, 1]
    assert frames[0]["data"]["status"] == "queued"
    assert frames[3]["data"] == {"percent": 40.5, "step": "linting"}
    assert frames[2]["data"] == {
        "stream": "stdout",
        "lines": [
            {"n": 1, "at": "2026-11-21T10:00:00Z", "text": "one"},
            {"n": 2, "at": "2026-11-21T10:00:00.010000Z", "text": "two 100%"},
        ],
    }
    assert frames[-1]["data"]["status"] == "completed"


def test_events_after_a_number_and_of_some_kinds(acme: World, talkative: Task) -> None:
    caller = acme.token()
    path = f"{TASKS}/{talkative.pk}/events"
    assert [frame["seq"] for frame in walk(caller, f"{path}?after=4")] == [5, 6, 7]
    assert [frame["seq"] for frame in walk(caller, f"{path}?kinds=state,progress")] == [1, 2, 4, 7]
    assert [frame["seq"] for frame in walk(caller, f"{path}?kinds=log&limit=1")] == [3, 5, 6]
    assert walk(caller, f"{path}?after=7") == []
    assert walk(caller, f"{path}?after=999999") == []


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("after=-1", "after"),
        ("after=x", "after"),
        (f"after={10**30}", "after"),
        ("limit=0", "limit"),
        ("kinds=rumour", "kinds"),
        ("cursor=1", "cursor"),
    ],
)
def test_a_bad_event_parameter_is_refused(acme: World, talkative: Task, query: str, name: str) -> None:
    answer = acme.token().get(f"{TASKS}/{talkative.pk}/events?{query}")
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["pointer"] == f"query:{name}"


def texts(rows: list[Any]) -> list[str]:
    return [row["text"] for row in rows]


ALL = ["one", "two 100%", "Oops", "four", "fünf"]


@pytest.mark.parametrize("limit", [1, 2, 3, 200])
def test_a_page_may_end_inside_a_chunk(acme: World, talkative: Task, limit: int) -> None:
    rows = walk(acme.token(), f"{TASKS}/{talkative.pk}/log?limit={limit}")
    assert texts(rows) == ALL
    assert [row["n"] for row in rows] == [1, 2, 3, 4, 5]
    assert [row["stream"] for row in rows] == ["stdout", "stdout", "stderr", "stdout", "stdout"]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ALL),
        ("after=3", ["Oops", "four", "fünf"]),
        ("after=3.1", ["two 100%", "Oops", "four", "fünf"]),
        ("stream=stderr", ["Oops"]),
        ("stream=stderr,system", ["Oops"]),
        ("stream=system", []),
        ("run=1", ALL),
        ("run=2", []),
        ("q=o", ["one", "two 100%", "Oops", "four"]),
        ("q=OOPS", ["Oops"]),
        ("q=100%25", ["two 100%"]),
        ("q=100_", []),
        ("from=2026-11-21T10:00:01Z", ["Oops", "four", "fünf"]),
        ("to=2026-11-21T10:00:00Z", ["one"]),
        ("from=2026-11-21T10:00:00.010Z&to=2026-11-21T10:00:02Z", ["two 100%", "Oops", "four"]),
        ("from=2026-11-22T00:00:00Z", []),
    ],
)
@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume")
def test_each_filter_of_the_log(acme: World, talkative: Task, query: str, found: list[str]) -> None:
    caller = acme.token()
    path = f"{TASKS}/{talkative.pk}/log?{query}"
    assert texts(walk(caller, path)) == found
    plain = caller.get(path, Accept="text/plain")
    assert b"".join(plain).decode() == "".join(f"{line}\n" for line in found)


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("after=1.0", "after"),
        ("after=1.2.3", "after"),
        ("after=١", "after"),
        ("run=0", "run"),
        ("stream=stdin", "stream"),
        ("q=", "q"),
        ("q=%00", "q"),
        ("from=now", "from"),
        ("limit=201", "limit"),
    ],
)
@pytest.mark.parametrize("accept", ["application/json", "text/plain"])
def test_a_bad_log_parameter_is_refused_in_every_form(
    acme: World, talkative: Task, accept: str, query: str, name: str
) -> None:
    answer = acme.token().get(f"{TASKS}/{talkative.pk}/log?{quote(query, '=&%')}", Accept=accept)
    assert answer.status_code == 400
    assert answer["Content-Type"] == "application/problem+json"
    assert answer.json()["errors"][0]["pointer"] == f"query:{name}"


def test_two_runs_keep_their_own_lines(acme: World) -> None:
    task = submitted(acme.acme)
    ended(task, RunStatus.LOST, lines(AT, "first try"))
    ended(task, RunStatus.COMPLETED, lines(AT, "second try"))
    caller = acme.token()
    assert texts(walk(caller, f"{TASKS}/{task.pk}/log?run=1")) == ["first try"]
    assert texts(walk(caller, f"{TASKS}/{task.pk}/log?run=2")) == ["second try"]
    assert texts(walk(caller, f"{TASKS}/{task.pk}/log")) == ["first try", "second try"]


def test_a_long_log_streams_as_plain_text_over_asgi(lasting_world: World) -> None:
    publish_types()
    task = submitted(lasting_world.acme)
    claimed = running(task)
    for number in range(25):
        chunk = [f"line {number * 100 + offset}" for offset in range(100)]
        append(task.pk, claimed.epoch, [lines(AT, *chunk, first=number * 100 + 1)])
    caller = lasting_world.token()

    async def fetch() -> tuple[int, int, str]:
        answer = await AsyncClient().get(
            f"{TASKS}/{task.pk}/log", headers={**caller.headers, "Accept": "text/plain"}
        )
        pieces = [piece async for piece in answer.streaming_content]
        assert answer["Content-Type"] == "text/plain; charset=utf-8"
        return answer.status_code, len(pieces), b"".join(pieces).decode()

    status, pieces, text = async_to_sync(fetch)()
    assert status == 200
    assert text == "".join(f"line {number}\n" for number in range(2500))
    assert pieces == 3


def test_times_of_lines_are_utc(acme: World, talkative: Task) -> None:
    rows = walk(acme.token(), f"{TASKS}/{talkative.pk}/log?limit=200")
    assert rows[-1]["at"] == rfc3339(AT + timedelta(seconds=2, milliseconds=10))
