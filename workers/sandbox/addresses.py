"""Which addresses may be reached from a sandbox, or by any other request that a tenant shapes.

Refused are all that are not public: loopback, private, link-local (and with it the metadata services
of clouds), carrier-grade NAT, unique local, multicast, reserved, unspecified; and IPv6 forms that
carry an IPv4 address, judged by that one; and this machine's own addresses, from which its firewall
does not keep us. An operator may allow single networks, but not what belongs to the platform itself. All
answers of a name must pass, and the connection goes to an address that was checked: the name is not
asked twice.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolver = Callable[[str, int], list[str]]
Service = tuple[str, int]
"""A host and a port."""

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
    judged = _judged(address)
    if judged is None:
        return False
    if _is_named(judged, allowed):
        return True
    if any(judged in each for each in REFUSED_NETWORKS if each.version == judged.version):
        return False
    if not judged.is_global or judged.is_multicast or judged.is_reserved:
        return False
    return not is_this_machine(judged)


def is_this_machine(address: Address) -> bool:
    """Whether an address is one of this machine's, in its network namespace.

    To itself the kernel sends from the very address it sends to. Connecting a datagram socket chooses
    the sender and sends nothing. (Binding tells less: the kernel may be set to bind any address.)
    """
    if address.is_loopback:
        return True
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((str(address), 9))
            sender = str(probe.getsockname()[0])
    except OSError:  # there is no way to it, or none of its kind here
        return False
    return ip_address(sender.partition("%")[0]) == address


def check(
    host: str,
    port: int,
    allowed: Iterable[Network] = (),
    resolve: Resolver | None = None,
    closed: Iterable[Service] = (),
) -> list[str]:
    """The checked addresses of a host, in the order to try them; AddressRefused when one is closed.

    Resolves once. A host that is refused by one answer is refused whole, or an attacker's name
    server would only have to mix. ``closed`` are services that stay closed whatever is allowed.
    """
    if not host or not 0 < port < 65536:
        raise AddressRefused("The address has no host or no valid port.")
    allowed = tuple(allowed)
    ask = resolve or resolve_name
    answers = ask(host, port)
    if not answers:
        raise AddressRefused(f"{host} has no address.")
    shut = {_judged(each) for name, its_port in closed if its_port == port for each in ask(name, port)}
    here = any(each is not None and is_this_machine(each) for each in shut)
    for answer in answers:
        judged = _judged(answer)
        of_service = judged in shut or (here and judged is not None and is_this_machine(judged))
        if of_service or not is_allowed(answer, allowed):
            raise AddressRefused(f"{host} leads to {answer}, which may not be reached from here.")
    return answers


def resolve_name(host: str, port: int) -> list[str]:
    """Every address the system's resolver has for a host, also for spellings like 0x7f.1."""
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return list(dict.fromkeys(str(each[4][0]) for each in found))


def _judged(text: str) -> Address | None:
    """Return the address that a text stands for, the IPv4 one that it carries; None if it is none."""
    try:
        parsed = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    carried = _carried(parsed)
    return parsed if carried is None else carried


def _is_named(address: Address, networks: Iterable[Network]) -> bool:
    return any(address in network for network in networks if network.version == address.version)


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
