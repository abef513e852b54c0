"""Where the platform's own services listen, read off their URLs."""

from __future__ import annotations

import pytest

from ops.services import read_services, services_of, write_services


@pytest.mark.parametrize(
    ("url", "services"),
    [
        ("postgresql://me:secret@db.internal/name", [("db.internal", 5432)]),
        ("postgresql://me@[fd00::5]:6000/name", [("fd00::5", 6000)]),
        ("postgres://a,b:6000/name", [("a", 5432), ("b", 6000)]),
        ("postgresql://a,b/name?port=7000", [("a", 7000), ("b", 7000)]),
        ("postgresql:///name?host=/run/postgresql", []),
        ("postgresql:///name?hostaddr=10.0.0.1&host=db", [("10.0.0.1", 5432)]),
        ("redis://:secret@cache:6380/1", [("cache", 6380)]),
        ("unix:///run/redis.sock", []),
        ("amqp://me:secret@one//;amqps://two/x", [("one", 5672), ("two", 5671)]),
    ],
)
def test_a_url_tells_where_its_service_is(url: str, services: list[tuple[str, int]]) -> None:
    assert services_of(url) == services


def test_services_are_read_as_they_are_written() -> None:
    services = [("db.internal", 5432), ("fd00::5", 6379)]
    assert read_services(write_services(services).split(",")) == services


@pytest.mark.parametrize("text", ["db", "db:", ":5432", "db:x", "db:0", "db:65536", "db:٣"])
def test_what_is_no_service_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="no host:port"):
        read_services([text])
