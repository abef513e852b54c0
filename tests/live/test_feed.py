"""A tenant's feed: nothing that was committed is left out, however late its commit was."""

from __future__ import annotations

import threading

import pytest
from django.db import connection

from live.feed import Cursor
from rest.errors import ValidationFailed
from tasks.services.cancel import cancel_task
from tasks.services.ready import one_change
from tasks.services.transitions import lock_task
from tests.live.scene import Web, close_code, dial, hear, submitted, token_of
from tests.tenants.callers import World

FEED = "/ws/v1/tenants/acme/feed"


def test_the_feed_tells_state_changes_and_progress_of_every_task_but_no_log(
    web: Web, lasting_world: World, token: str
) -> None:
    with dial(web, FEED, token) as client:
        first = hear(client)
        one, two = submitted(lasting_world.acme), submitted(lasting_world.acme)
        told = {hear(client)["task"], hear(client)["task"]}
        one.run().print("not here")
        running = hear(client)
        one.progress(40, "linting")
        progress = hear(client)
    assert first["kind"] == "snapshot"
    assert first["cursor"]
    assert told == {str(one.id), str(two.id)}
    assert running["kind"] == "state"
    assert running["data"]["status"] == "running"
    assert progress["kind"] == "progress"
    assert progress["data"] == {"percent": 40, "step": "linting"}


def test_other_tenants_are_not_in_the_feed(web: Web, lasting_world: World, token: str) -> None:
    with dial(web, FEED, token) as client:
        hear(client)
        submitted(lasting_world.other)
        own = submitted(lasting_world.acme)
        assert hear(client)["task"] == str(own.id)


def test_after_replays_what_happened_meanwhile(web: Web, lasting_world: World, token: str) -> None:
    with dial(web, FEED, token) as client:
        hear(client)
        submitted(lasting_world.acme)
        cursor = hear(client)["cursor"]
    missed = [str(submitted(lasting_world.acme).id) for _ in range(3)]
    with dial(web, f"{FEED}?after={cursor}", token) as client:
        assert hear(client)["kind"] == "snapshot"
        assert [hear(client)["task"] for _ in missed] == missed


def test_a_change_that_commits_late_is_told_after_the_cursor_of_a_later_one(
    web: Web, lasting_world: World, token: str
) -> None:
    early, late = submitted(lasting_world.acme), submitted(lasting_world.acme)
    written, go_on = threading.Event(), threading.Event()

    def cancel_slowly() -> None:
        with one_change():
            cancel_task(lock_task(early.id), by="slow", reason="", force=False)
            written.set()
            go_on.wait(20)
        connection.close()

    slow = threading.Thread(target=cancel_slowly)
    slow.start()
    try:
        assert written.wait(10)
        with dial(web, FEED, token) as client:
            hear(client)
            late.run()
            seen = hear(client)
            assert seen["task"] == str(late.id)
            go_on.set()
            overtaken = hear(client)
            assert (overtaken["task"], overtaken["data"]["status"]) == (str(early.id), "cancelled")
        # The same for one who had gone in between: `seen` is before the late commit.
        with dial(web, f"{FEED}?after={seen['cursor']}", token) as client:
            hear(client)
            assert hear(client)["task"] == str(early.id)
    finally:
        go_on.set()
        slow.join()


def test_a_long_replay_can_be_interrupted_at_every_frame(
    impatient_web: Web, lasting_world: World, token: str
) -> None:
    with dial(impatient_web, FEED, token) as client:
        cursor = hear(client)["cursor"]
    expected = [str(submitted(lasting_world.acme).id) for _ in range(35)]
    told: list[str] = []
    while len(told) < len(expected):
        with dial(impatient_web, f"{FEED}?after={cursor}", token) as client:
            hear(client)
            for _ in range(min(7, len(expected) - len(told))):
                frame = hear(client)
                told.append(frame["task"])
                cursor = frame["cursor"]
    assert told == expected


@pytest.mark.parametrize("after", ["-1", "x", "", "W10", "bnVsbA", "WyI1OjQ6Il0", "9" * 30])
def test_a_cursor_that_is_none_of_ours_is_4400(
    web: Web, lasting_world: World, token: str, after: str
) -> None:
    with dial(web, f"{FEED}?after={after}", token) as client:
        assert close_code(client) == 4400


def test_a_cursor_of_the_future_is_4400(web: Web, lasting_world: World, token: str) -> None:
    ahead = Cursor("9000000000000:9000000000000:").text()
    with dial(web, f"{FEED}?after={ahead}", token) as client:
        assert close_code(client) == 4400


def test_the_feed_needs_the_scope_that_reads_tasks(web: Web, lasting_world: World) -> None:
    _, raw = token_of(lasting_world.acme, "kv:read")
    with dial(web, FEED, raw) as client:
        assert close_code(client) == 4404


def test_a_cursor_survives_its_text() -> None:
    plain = Cursor("10:20:11,15")
    assert Cursor.read(plain.text()) == plain


@pytest.mark.parametrize(
    "snapshot", ["20:10:", "10:20:15,11", "10:20:11,11", "10:20:25", "0:1:", f"1:{'9' * 20}:"]
)
def test_a_cursor_that_postgresql_would_refuse_is_refused_first(snapshot: str) -> None:
    with pytest.raises(ValidationFailed):
        Cursor.read(Cursor(snapshot).text())
