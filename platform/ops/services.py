"""Where the platform's own services listen, so that no task can be led there."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

Service = tuple[str, int]
"""A host and a port of TCP."""

PORTS = {"redis": 6379, "rediss": 6379, "amqp": 5672, "pyamqp": 5672, "amqps": 5671}
POSTGRESQL_PORT = 5432


def services_of(url: str) -> list[Service]:
    """Return where a URL of PostgreSQL, Redis or a broker leads; nothing for a local socket."""
    if url.startswith(("postgresql:", "postgres:")):
        return _postgresql(url)
    found = []
    for each in url.split(";"):
        parts = urlsplit(each)
        default = PORTS.get(parts.scheme)
        if parts.hostname and default:
            found.append((parts.hostname, parts.port or default))
    return found


def read_services(texts: Iterable[str]) -> list[Service]:
    """Read ``host:port`` pairs, an IPv6 address in brackets.

    Raises:
        ValueError: naming the first that is none.
    """
    found = []
    for text in texts:
        host, colon, port = text.rpartition(":")
        if not (colon and host and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise ValueError(f"{text!r} is no host:port")
        found.append((host.strip("[]"), int(port)))
    return found


def write_services(services: Iterable[Service]) -> str:
    """Return what :func:`read_services` reads, joined by commas."""
    return ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in services)


def _postgresql(url: str) -> list[Service]:
    try:
        parts = conninfo_to_dict(url)
    except ProgrammingError:
        return []  # config.databases says what is wrong with it
    hosts = str(parts.get("hostaddr") or parts.get("host") or "").split(",")
    ports = str(parts.get("port") or "").split(",")
    if len(ports) == 1:
        ports *= len(hosts)
    pairs = zip(hosts, ports, strict=False)
    return [(host, int(port or POSTGRESQL_PORT)) for host, port in pairs if host and host[0] not in "/@"]
