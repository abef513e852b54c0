"""The log view's paging: the tail first, older pages without gap, and the place of a line."""

from __future__ import annotations

from datetime import UTC, datetime

from tasks.models import Task
from tests.tasks.api.work import lines, running, submitted
from tests.tenants.callers import World
from tests.web.conftest import Browser
from web import log_pages

NOW = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)


def talkative(world: World, chunks: int, lines_each: int) -> Task:
    task = submitted(world.acme)
    said = [lines(NOW, *["x"] * lines_each, first=1 + number * lines_each) for number in range(chunks)]
    running(task, *said)
    return task


def test_the_tail_and_the_pages_before_it_are_the_whole_log_once_each(
    world: World, log_in: Browser
) -> None:
    task = talkative(world, 30, 250)
    alice = log_in("alice")
    page = alice.get(f"/t/acme/tasks/{task.pk}")
    after = page.context["log_after"]
    assert page.context["log_older"]
    numbers = []
    rest = log_pages.events_after(task.pk, after, kinds={"log"})
    numbers[:0] = [line["n"] for frame in rest for line in frame["data"]["lines"]]
    assert len(numbers) == log_pages.PAGE_LINES
    more = True
    while more:
        older = alice.get(f"/t/acme/tasks/{task.pk}/log/older?before={after + 1}").json()
        numbers[:0] = [line["n"] for frame in older["frames"] for line in frame["data"]["lines"]]
        after, more = older["after"], older["more"]
    assert numbers == list(range(1, 30 * 250 + 1))


def test_a_short_log_is_its_own_tail(world: World, log_in: Browser) -> None:
    task = talkative(world, 2, 3)
    page = log_in("alice").get(f"/t/acme/tasks/{task.pk}")
    assert not page.context["log_older"]
    assert page.context["log_after"] < log_pages.events_after(task.pk, 0, kinds={"log"})[0]["seq"]


def test_a_chunk_longer_than_a_page_is_still_shown(world: World, log_in: Browser) -> None:
    task = talkative(world, 3, log_pages.PAGE_LINES + 5)
    after = log_in("alice").get(f"/t/acme/tasks/{task.pk}").context["log_after"]
    assert len(log_pages.events_after(task.pk, after, kinds={"log"})) == 1


def test_the_place_of_a_line_is_where_the_stream_must_begin(world: World, log_in: Browser) -> None:
    task = talkative(world, 30, 250)
    alice = log_in("alice")
    found = alice.get(f"/t/acme/tasks/{task.pk}/log/place?run=1&line=1001").json()["after"]
    first = log_pages.events_after(task.pk, found, kinds={"log"})[0]
    assert [line["n"] for line in first["data"]["lines"]] == list(range(1001, 1251))
    nowhere = alice.get(f"/t/acme/tasks/{task.pk}/log/place?run=2&line=5").json()
    assert nowhere == {"after": None}


def test_a_number_that_is_none_is_refused(world: World, log_in: Browser) -> None:
    task = submitted(world.acme)
    alice = log_in("alice")
    for wrong in ("", "-1", "x", "9" * 40, "1" * 5000, "1" + "0" * 19, "%00", "٣"):
        for query in (f"older?before={wrong}", f"place?run={wrong}&line=1", f"place?run=1&line={wrong}"):
            assert alice.get(f"/t/acme/tasks/{task.pk}/log/{query}").status_code == 400


def test_the_largest_number_is_taken(world: World, log_in: Browser) -> None:
    task = submitted(world.acme)
    path = f"/t/acme/tasks/{task.pk}/log"
    alice = log_in("alice")
    assert alice.get(f"{path}/older?before={2**62}").status_code == 200
    assert alice.get(f"{path}/place?run={2**62}&line={2**62}").json() == {"after": None}
