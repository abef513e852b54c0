"""`switchyard scale`: what it sends, what it waits for, what it says."""

from __future__ import annotations

import json
from typing import Any

import pytest

from switchyard.bounds import Bounds, WrongBounds, read_bounds, read_pools
from tests.switchyard.conftest import Command
from tests.switchyard.contract_server import ContractServer


def pool(name: str, least: int, most: int, *, slots: int, target: int, draining: int = 0) -> Any:
    """A pool on one machine, as the API shows it."""
    machine = {"machine": "m1", "min": least, "max": most, "target": target, "why": "busy"}
    return {
        "name": name,
        "min": least,
        "max": most,
        "target": target,
        "slots": slots,
        "busy": 0,
        "waiting": 0,
        "why": "busy",
        "workers": {"alive": 1, "draining": draining},
        "machines": [machine],
    }


def test_without_pools_it_shows_them(server: ContractServer, command: Command) -> None:
    server.pools = [[pool("batch", 0, 4, slots=1, target=2)]]
    done = command("scale")
    assert done.returncode == 0
    head, row = done.stdout.splitlines()
    assert head.split() == ["POOL", "MIN", "MAX", "TARGET", "SLOTS", "BUSY", "WAITING", "WHY"]
    assert row.split() == ["batch", "0", "4", "2", "1", "0", "0", "busy"]
    assert json.loads(command("scale", "--json").stdout)["results"] == server.pools[0]
    assert server.bodies == []


def test_it_scales_all_at_once_and_tells_until_they_have_their_slots(
    server: ContractServer, command: Command
) -> None:
    server.pools = [
        [],
        [pool("critical", 2, 2, slots=2, target=2), pool("batch", 2, 2, slots=2, target=2)],
        [
            pool("critical", 2, 8, slots=2, target=3),
            pool("batch", 1, 1, slots=1, target=1, draining=1),
        ],
        [pool("critical", 2, 8, slots=3, target=3), pool("batch", 1, 1, slots=1, target=1)],
    ]
    done = command("scale", "critical=2..8", "batch=1")
    assert done.returncode == 0, done.stderr
    assert server.bodies == [{"critical": {"min": 2, "max": 8}, "batch": {"min": 1, "max": 1}}]
    assert done.stdout.splitlines()[:2] == [
        "critical becomes 2 to 8 slots, as they are needed",
        "batch becomes 1 slots",
    ]
    assert done.stderr.splitlines() == [
        "critical: its machines have not heard of it yet",
        "batch: its machines have not heard of it yet",
        "critical: 2 of 3 slots (busy)",
        "batch: 1 of 1 slots, 1 worker finishing what they run (busy)",
    ]


def test_who_does_not_want_to_wait_does_not_have_to(server: ContractServer, command: Command) -> None:
    server.pools = [[pool("batch", 2, 2, slots=2, target=2)]]
    done = command("scale", "batch=1", "--detach")
    assert (done.returncode, done.stderr) == (0, "")
    done = command("scale", "batch=1", "--timeout", "0", "--json")
    assert done.returncode == 8
    assert json.loads(done.stdout)["results"] == server.pools[0]


def test_a_pool_that_no_machine_serves_is_said_so(server: ContractServer, command: Command) -> None:
    server.pools = [[{**pool("batch", 1, 1, slots=0, target=0), "machines": []}]]
    done = command("scale", "batch=1", "--timeout", "0")
    assert (done.returncode, done.stderr) == (8, "batch: no machine serves it\n")


@pytest.mark.parametrize(
    "wrong", ["batch", "batch=", "other=1", "batch=2..1", "batch=1..300", "batch=-1"]
)
def test_nothing_is_sent_when_one_of_them_is_wrong(
    server: ContractServer, command: Command, wrong: str
) -> None:
    done = command("scale", "critical=2", wrong)
    assert done.returncode == 2
    assert "scale --help" in done.stderr
    assert server.requests == []


def test_what_the_server_refuses_is_told(server: ContractServer, command: Command) -> None:
    refusal = {"status": 409, "code": "pool_minimum", "detail": "The critical pool has a minimum of 2."}
    server.refusals = [(409, {}, refusal)]
    done = command("scale", "critical=0")
    assert (done.returncode, done.stdout) == (1, "")
    assert "has a minimum of 2" in done.stderr


def test_bounds_are_read_as_they_are_written() -> None:
    for text, bounds in (("0", Bounds(0, 0)), ("4", Bounds(4, 4)), ("2..8", Bounds(2, 8))):
        assert read_bounds(text) == bounds
        assert str(bounds) == text
    for wrong in ("", "..", "1..", "..2", "1...2", "1-2", "٣", "1 ..2", "0x1", "257", "1000"):
        with pytest.raises(WrongBounds):
            read_bounds(wrong)
    assert read_pools(["batch=0..4", "critical=2"]) == {"batch": Bounds(0, 4), "critical": Bounds(2, 2)}
    with pytest.raises(WrongBounds, match="batch is named twice"):
        read_pools(["batch=1", "batch=2"])
