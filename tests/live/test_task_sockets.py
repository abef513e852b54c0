"""The socket of one task: snapshot, every event once and in order, end."""

from __future__ import annotations

import random
import threading
from typing import Any

import pytest
from django.db import connection
from websockets.exceptions import ConnectionClosed

from tasks.services.cancel import cancel
from tasks.services.retry import retry
from tests.live.scene import (
    Job,
    Web,
    close_code,
    dial,
    hear,
    hear_all,
    hear_until,
    seqs,
    submitted,
    task_path,
)
from tests.tenants.callers import World

WRITERS, EACH = 4, 250


def test_the_first_frame_is_the_task_and_the_last_its_end(
    web: Web, lasting_world: World, token: str
) -> None:
    job = submitted(lasting_world.acme)
    with dial(web, task_path(job), token) as client:
        first = hear(client)
        job.run().print("hello")
        job.complete()
        rest = hear_all(client)
    assert first["kind"] == "snapshot"
    assert first["seq"] == 1
    assert first["task"]["id"] == str(job.id)
    assert first["task"]["status"] == "queued"
    assert seqs(rest) == [2, 3, 4]
    assert [frame["kind"] for frame in rest] == ["state", "log", "state", "end"]
    assert rest[1]["data"]["lines"][0]["text"] == "hello"
    assert rest[-1] == {"kind": "end", "status": "completed", "seq": 4}


def test_an_event_arrives_within_half_a_second(web: Web, lasting_world: World, token: str) -> None:
    job = submitted(lasting_world.acme).run()
    with dial(web, task_path(job), token) as client:
        hear(client)
        for _ in range(5):
            seq = job.print("now")
            assert hear(client, 0.5)["seq"] == seq


def test_a_finished_task_has_a_snapshot_an_end_and_a_close(
    web: Web, lasting_world: World, token: str
) -> None:
    job = submitted(lasting_world.acme).run()
    job.complete()
    with dial(web, task_path(job), token) as client:
        frames = hear_all(client)
    assert [frame["kind"] for frame in frames] == ["snapshot", "end"]
    with dial(web, task_path(job, after=0), token) as client:
        replayed = hear_all(client)
    assert seqs(replayed) == [1, 2, 3]
    assert replayed[-1] == {"kind": "end", "status": "completed", "seq": 3}


def test_reconnecting_with_after_goes_on_where_it_stopped(
    web: Web, lasting_world: World, token: str
) -> None:
    job = submitted(lasting_world.acme).run()
    with dial(web, task_path(job), token) as client:
        hear(client)
        last = job.print("one")
        assert hear(client)["seq"] == last
    job.print("two")
    job.progress(50, "half")
    with dial(web, task_path(job, after=last), token) as client:
        assert hear(client)["seq"] == last + 2
        assert seqs([hear(client), hear(client)]) == [last + 1, last + 2]


def test_after_the_last_event_waits_for_the_next(web: Web, lasting_world: World, token: str) -> None:
    job = submitted(lasting_world.acme).run()
    with dial(web, task_path(job, after=job.last_seq), token) as client:
        assert hear(client)["kind"] == "snapshot"
        with pytest.raises(TimeoutError):
            client.recv(0.3)
        seq = job.print("next")
        assert hear(client)["seq"] == seq


@pytest.mark.parametrize("after", ["-1", "1" + "0" * 30, '"x"', "x", "", "1.0", "3", "%00", "2&after=1"])
def test_an_after_that_cannot_be_is_4400(web: Web, lasting_world: World, token: str, after: str) -> None:
    job = submitted(lasting_world.acme).run()
    assert job.last_seq == 2
    with dial(web, task_path(job, after=after), token) as client:
        assert close_code(client) == 4400


def test_a_task_that_was_retried_is_followed_beyond_its_first_end(
    web: Web, lasting_world: World, token: str
) -> None:
    job = submitted(lasting_world.acme)
    cancel(job.id, by="somebody")
    retry(job.id, by="somebody")
    with dial(web, task_path(job, after=0), token) as client:
        hear_until(client, job.last_seq)
        job.run().complete()
        assert hear_all(client)[-1]["status"] == "completed"


def test_a_thousand_appends_at_once_reach_every_watcher_without_gap_or_double(
    web: Web, lasting_world: World, token: str
) -> None:
    job = submitted(lasting_world.acme).run()
    steady: list[dict[str, Any]] = []
    restless: list[int] = []
    watchers = [
        threading.Thread(target=_watch, args=(web, job, token, steady)),
        threading.Thread(target=_watch_with_interruptions, args=(web, job, token, restless)),
    ]
    writers = [threading.Thread(target=_write, args=(job,)) for _ in range(WRITERS)]
    for thread in (*watchers, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    job.complete()
    for thread in watchers:
        thread.join(60)
    expected = list(range(1, WRITERS * EACH + 4))
    assert seqs(steady) == expected
    assert restless == expected


def _write(job: Job) -> None:
    try:
        for number in range(EACH):
            job.print(f"line {number}")
    finally:
        connection.close()


def _watch(web: Web, job: Job, token: str, heard: list[dict[str, Any]]) -> None:
    with dial(web, task_path(job, after=0), token) as client:
        heard.extend(hear_all(client, timeout=60))


def _watch_with_interruptions(web: Web, job: Job, token: str, heard: list[int]) -> None:
    chance = random.Random(7)
    while True:
        with dial(web, task_path(job, after=heard[-1] if heard else 0), token) as client:
            assert hear(client)["kind"] == "snapshot"
            for _ in range(chance.randint(1, 120)):
                try:
                    frame = hear(client, timeout=60)
                except ConnectionClosed:
                    return
                if frame["kind"] == "end":
                    return
                heard.append(frame["seq"])
