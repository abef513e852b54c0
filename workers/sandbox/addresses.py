"""Which addresses may be reached from a sandbox, a webhook or any other request a tenant shapes.

Refused are all that are not public: loopback, private, link-local (and with it the metadata services
of clouds), carrier-grade NAT, unique local, multicast, reserved, unspecified; and IPv6 forms that
carry an IPv4 address, judged by that one. An operator may allow single networks. All answers of a
name must pass, and the connection goes to an address that was checked: the name is not asked twice.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolver = Callable[[str, int], list[str]]

REFUSED_NETWORKS = tuple(
    ip_network(each)
    for each in (
        "0.0.0.0/8",
        "100.64.0.0/10",
        "192.0.0.0/24",
        "192.88.99.0/24",
        "198.18.0.0/15",
        "240.0.0.0/4",
        "168.63.129.16/32",
        "fec0::/10",
    )
)
"""Beyond what `ipaddress` calls not global; 168.63.129.16 is Azure's own service address."""
NAT64 = (ip_network("64:ff9b::/96"), ip_network("64:ff9b:1::/48"))


class AddressRefused(Exception):
    """The address or name may not be reached from here; the text says why."""


def networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Parse an operator's list of CIDRs; ValueError names the first that is none."""
    return tuple(ip_network(text, strict=False) for text in texts)


def is_allowed(address: str, allowed: Iterable[Network] = ()) -> bool:
    """Whether one numeric address may be connected to."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    carried = _carried(parsed)
    judged = carried if carried is not None else parsed
    if any(judged in network for network in allowed if network.version == judged.version):
        return True
    if any(judged in each for each in REFUSED_NETWORKS if each.version == judged.version):
        return False
    return judged.is_global and not judged.is_multicast and not judged.is_reserved


def check(
    host: str, port: int, allowed: Iterable[Network] = (), resolve: Resolver | None = None
) -> list[str]:
    """The checked addresses of a host, in the order to try them; AddressRefused when one is closed.

    Resolves once. A host that is refused by one answer is refused whole, or an attacker's name
    server would only have to mix.
    """
    if not host or not 0 < port < 65536:
        raise AddressRefused("The address has no host or no valid port.")
    allowed = tuple(allowed)
    answers = (resolve or resolve_name)(host, port)
    if not answers:
        raise AddressRefused(f"{host} has no address.")
    for answer in answers:
        if not is_allowed(answer, allowed):
            raise AddressRefused(f"{host} leads to {answer}, which may not be reached from here.")
    return answers


def resolve_name(host: str, port: int) -> list[str]:
    """Every address the system's resolver has for a host, also for spellings like 0x7f.1."""
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return list(dict.fromkeys(str(each[4][0]) for each in found))


def _carried(address: Address) -> Address | None:
    """The IPv4 address inside an IPv6 one (mapped, compatible, 6to4, Teredo, NAT64), if any."""
    if address.version == 4:
        return None
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    number = int(address)
    if any(address in network for network in NAT64) or 0xFFFF < number < 1 << 32:
        return IPv4Address(number & 0xFFFFFFFF)
    return None
