"""Which addresses are open, in every spelling that somebody might try."""

from __future__ import annotations

import socket
from ipaddress import ip_address

import pytest

from workers.sandbox import addresses
from workers.sandbox.addresses import (
    AddressRefused,
    check,
    is_allowed,
    is_this_machine,
    networks,
    resolve_name,
)

REFUSED = [
    "127.0.0.1",
    "127.1.2.3",
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "169.254.169.254",
    "169.254.0.1",
    "168.63.129.16",
    "100.64.0.1",
    "100.100.100.200",
    "192.0.0.192",
    "192.0.2.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
    "fe80::1",
    "fe80::1%eth0",
    "fc00::1",
    "fd00:ec2::254",
    "fec0::1",
    "ff02::1",
    "2001:db8::1",
    "not an address",
    "",
]
OPEN = ["1.1.1.1", "8.8.8.8", "140.82.121.4", "2606:4700:4700::1111", "::ffff:8.8.8.8"]
LOOPBACK_SPELLINGS = ["127.1", "0x7f.1", "2130706433", "0177.0.0.1", "localhost", "0", "[::1]"]


@pytest.mark.parametrize("address", REFUSED)
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    assert not is_allowed(address)


@pytest.mark.parametrize("address", OPEN)
def test_a_public_address_is_open(address: str) -> None:
    assert is_allowed(address)


@pytest.mark.parametrize("spelling", LOOPBACK_SPELLINGS)
def test_no_spelling_of_loopback_gets_through(spelling: str) -> None:
    with pytest.raises(AddressRefused):
        check(spelling, 80)


@pytest.mark.parametrize("host", ["", "a" * 300, "\udcff", "name with space", "x\0y"])
def test_a_host_that_cannot_be_resolved_is_refused(host: str) -> None:
    with pytest.raises(AddressRefused):
        check(host, 80)


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_an_impossible_port_is_refused(port: int) -> None:
    with pytest.raises(AddressRefused):
        check("1.1.1.1", port)


def test_one_closed_answer_closes_the_whole_name() -> None:
    with pytest.raises(AddressRefused, match=r"10\.0\.0\.1"):
        check("mixed.example", 80, resolve=lambda _host, _port: ["1.1.1.1", "10.0.0.1"])


def test_a_name_is_resolved_once_and_the_checked_addresses_are_given_back() -> None:
    answers = iter([["1.1.1.1"], ["127.0.0.1"]])
    assert check("rebinding.example", 80, resolve=lambda _h, _p: next(answers)) == ["1.1.1.1"]
    assert next(answers) == ["127.0.0.1"]


def test_an_operator_may_open_single_networks() -> None:
    allowed = networks(["10.1.0.0/16", "fd00::/8"])
    assert is_allowed("10.1.2.3", allowed)
    assert is_allowed("::ffff:10.1.2.3", allowed)
    assert is_allowed("fd00::1", allowed)
    assert not is_allowed("10.2.0.1", allowed)


def test_the_resolver_never_raises() -> None:
    assert resolve_name("no such host.invalid", 80) == []


def test_a_service_of_the_platform_stays_closed_in_a_network_that_is_open() -> None:
    names = {"db.internal": ["10.1.0.5"], "alias.example": ["::ffff:10.1.0.5"]}
    settled = {
        "allowed": networks(["10.1.0.0/16"]),
        "resolve": lambda host, _port: names.get(host, [host]),
        "closed": [("db.internal", 5432)],
    }
    for host in ("db.internal", "alias.example", "10.1.0.5"):
        with pytest.raises(AddressRefused):
            check(host, 5432, **settled)
        assert check(host, 443, **settled)
    assert check("10.1.0.6", 5432, **settled) == ["10.1.0.6"]


def test_a_service_of_this_machine_is_closed_at_each_of_its_addresses() -> None:
    loopback = networks(["127.0.0.0/8"])
    with pytest.raises(AddressRefused):
        check("127.0.0.9", 5432, loopback, closed=[("localhost", 5432)])
    assert check("127.0.0.9", 5433, loopback, closed=[("localhost", 5432)]) == ["127.0.0.9"]


def test_public_addresses_of_this_machine_are_not_public_from_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for own in ("127.0.0.1", "127.8.9.10", "::1"):
        assert is_this_machine(ip_address(own)), own
    for foreign in ("1.1.1.1", "2606:4700:4700::1111"):
        assert not is_this_machine(ip_address(foreign)), foreign
    monkeypatch.setattr(addresses, "is_this_machine", lambda address: str(address) == "1.1.1.1")
    assert not is_allowed("1.1.1.1")
    assert is_allowed("1.1.1.1", networks(["1.1.1.1"]))
    assert is_allowed("9.9.9.9")


def test_where_the_kernel_has_no_ipv6_a_host_is_reached_by_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    class Without(socket.socket):
        def __init__(self, family: int = -1, *rest: int) -> None:
            if family == socket.AF_INET6:
                raise OSError(97, "Address family not supported by protocol")
            super().__init__(family, *rest)

    monkeypatch.setattr(addresses.socket, "socket", Without)
    both = ["2606:4700:4700::1111", "1.1.1.1"]
    assert check("dual.example", 443, resolve=lambda _host, _port: both) == both
