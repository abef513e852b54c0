"""Announcing for a machine's supervisors: what they tell by datagram reaches whoever watches."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ops.pools import announcing
from ops.pools.announcing import Announcing
from tasks import announce
from tasks.announce import RELAY_VARIABLE

News = dict[tuple[uuid.UUID, int], int]
Send = Callable[[uuid.UUID, int, int], None]
TASK = uuid.UUID(int=7)


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[News]:
    told: list[News] = []
    monkeypatch.setattr(announcing, "announce_all", told.append)
    return told


@pytest.fixture
def place() -> Iterator[Path]:
    """A path short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="sy-") as folder:
        yield Path(folder) / "announce"


@pytest.fixture
def send(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Send]:
    """Announce as a supervisor does."""
    monkeypatch.setenv(RELAY_VARIABLE, str(place))
    announce._sender.cache_clear()
    yield announce.announce
    announce._sender.cache_clear()


def test_what_supervisors_tell_is_announced_the_newest_of_each_task_once(
    place: Path, heard: list[News], send: Send
) -> None:
    machine = Announcing(place)
    other = uuid.UUID(int=8)
    for task, tenant, seq in ((TASK, 1, 3), (TASK, 1, 5), (other, 2, 1), (TASK, 1, 4)):
        send(task, tenant, seq)
    machine.start()
    machine.stop()
    assert heard == [{(TASK, 1): 5, (other, 2): 1}]
    assert not place.exists()


def test_it_ends_also_where_its_folder_was_removed(place: Path, heard: list[News]) -> None:
    machine = Announcing(place)
    machine.start()
    place.unlink()
    machine.stop()
    assert not heard


def test_garbage_is_passed_over(place: Path, heard: list[News], send: Any) -> None:
    machine = Announcing(place)
    relay = announce._Relay(str(place))
    for garbage in (b"\xff", b"a b c", b"1", b"x" * 4000):
        relay._socket.sendto(garbage, str(place))
    send(TASK, 1, 2)
    machine.start()
    machine.stop()
    assert heard == [{(TASK, 1): 2}]


def test_without_whoever_announces_a_supervisor_does_it_itself(
    send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[uuid.UUID, int, int]] = []

    class Itself:
        def send(self, *news: Any) -> None:
            told.append(news)

    monkeypatch.setattr(announce, "_announcer", Itself)
    send(TASK, 1, 2)
    assert told == [(TASK, 1, 2)]
