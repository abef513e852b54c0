"""Following through every kind of lost connection: each event once, in order, then the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from switchyard.client import Client, NotAuthenticated, NotFound, Unreachable
from tests.switchyard.contract_server import TENANT, TOKEN, ContractServer, until


def printed(server: ContractServer, count: int) -> str:
    """Return a task that has run, printed that many lines, and completed."""
    name = server.task()
    server.run(name)
    for number in range(count):
        server.lines(name, f"line {number}")
    server.end(name)
    return name


def wanted(count: int) -> list[str]:
    return [f"line {number}" for number in range(count)]


def later(action: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=action)
    thread.start()
    return thread


def test_events_come_in_order_and_end_with_the_status(client: Client, server: ContractServer) -> None:
    name = printed(server, 3)
    follower = client.follow_events(name)
    events = list(follower)
    assert [event.seq for event in events] == [1, 2, 3, 4, 5, 6, 6]
    assert [event.kind for event in events] == ["state", "state", "log", "log", "log", "state", "end"]
    assert follower.status == "completed"


def test_following_starts_behind_the_event_that_is_known(client: Client, server: ContractServer) -> None:
    name = printed(server, 3)
    assert [event.seq for event in client.follow_events(name, after=4)] == [5, 6, 6]


@pytest.mark.parametrize("how", ["cut", "close"])
def test_no_line_is_lost_or_repeated_when_connections_end_early(
    client: Client, server: ContractServer, how: str
) -> None:
    name = printed(server, 40)
    server.stream_ends = [(how, 1), (how, 0), (how, 7), (how, 3), (how, 20)]
    log = client.follow_log(name)
    assert [line.text for line in log] == wanted(40)
    assert log.status == "completed"
    assert server.streams == 6


def test_what_a_server_repeats_is_dropped(client: Client, server: ContractServer) -> None:
    name = printed(server, 10)
    server.repeat = True
    server.stream_ends = [("cut", 4), ("close", 8)]
    assert [line.text for line in client.follow_log(name)] == wanted(10)


def test_a_stream_that_ends_without_a_word_is_over_when_the_task_is(
    client: Client, server: ContractServer
) -> None:
    server.says_end = False
    name = printed(server, 2)
    follower = client.follow_events(name)
    events = list(follower)
    assert (events[-1].kind, events[-1].raw["status"]) == ("end", "completed")
    assert follower.status == "completed"
    assert server.streams == 1


def test_a_stream_that_ends_without_a_word_goes_on_while_the_task_does(
    client: Client, server: ContractServer
) -> None:
    name = server.task()
    server.run(name)
    server.lines(name, "line 0")
    server.stream_ends = [("close", 2)]
    lines = []
    for line in client.follow_log(name):
        lines.append(line.text)
        if len(lines) == 1:
            server.lines(name, "line 1")
            server.end(name)
    assert lines == wanted(2)


def test_a_restart_of_the_server_loses_and_repeats_nothing(
    client: Client, server: ContractServer
) -> None:
    name = server.task()
    server.run(name)

    def work() -> None:
        for number in range(60):
            if number == 20:
                until(lambda: len(lines) >= 20, "lines before the restart")
                server.stop()
            if number == 40:
                server.start()
            server.lines(name, f"line {number}")
            time.sleep(0.01)
        server.end(name)

    lines: list[str] = []
    worker = later(work)
    for line in client.follow_log(name):
        lines.append(line.text)
    worker.join()
    assert lines == wanted(60)


def test_lines_arrive_as_they_are_printed(client: Client, server: ContractServer) -> None:
    name = server.task()
    server.run(name)
    log = client.follow_log(name)
    for number in range(5):
        server.lines(name, f"line {number}")
        before = time.monotonic()
        assert next(log).text == f"line {number}"
        assert time.monotonic() - before < 0.5
    server.end(name)
    assert list(log) == []


def test_only_one_stream_can_be_asked_for(client: Client, server: ContractServer) -> None:
    name = server.task()
    server.run(name)
    server.lines(name, "out")
    server.lines(name, "err", stream="stderr")
    server.end(name)
    assert [line.text for line in client.follow_log(name, stream="stderr")] == ["err"]


def test_an_interruption_is_told(client: Client, server: ContractServer) -> None:
    name = printed(server, 4)
    server.stream_ends = [("cut", 2)]
    told: list[object] = []
    list(client.follow_events(name, on_interruption=told.append))
    assert len(told) == 1


def test_a_revoked_token_ends_following(server: ContractServer) -> None:
    name = server.task()
    with Client(server.url, "sy_other", TENANT) as client, pytest.raises(NotAuthenticated):
        list(client.follow_events(name))


def test_a_task_that_is_not_there_cannot_be_followed(client: Client, server: ContractServer) -> None:
    with pytest.raises(NotFound):
        list(client.follow_events("nothing"))


def test_following_gives_up_when_its_patience_is_over(server: ContractServer) -> None:
    name = server.task()
    with Client(server.url, TOKEN, TENANT) as client:
        follower = client.follow_events(name, patience=0.5)
        assert next(follower).kind == "state"
        server.stop()
        with pytest.raises(Unreachable):
            list(follower)


def test_wait_returns_the_task_when_it_has_ended(client: Client, server: ContractServer) -> None:
    name = server.task()
    server.run(name)
    timer = threading.Timer(0.2, lambda: server.end(name, "failed"))
    timer.start()
    assert client.wait(name, timeout=20).status == "failed"


def test_wait_returns_the_task_as_it_is_when_the_time_is_up(
    client: Client, server: ContractServer
) -> None:
    name = server.task()
    assert client.wait(name, timeout=0).status == "queued"
    before = time.monotonic()
    assert not client.wait(name, timeout=0.5).ended
    assert time.monotonic() - before < 3


def test_wait_goes_on_through_a_restart(client: Client, server: ContractServer) -> None:
    name = server.task()
    server.run(name)

    def restart() -> None:
        until(lambda: any(path.endswith("/wait") for _, path, _ in server.requests), "waiting")
        server.stop()
        server.end(name)
        server.start()

    thread = later(restart)
    assert client.wait(name).status == "completed"
    thread.join()
