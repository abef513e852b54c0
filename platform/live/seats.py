"""How many live connections each credential holds open in this process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from live import limits
from rest.errors import TooManyRequests

_taken: Counter[str] = Counter()


class TooManyConnections(TooManyRequests):
    """One credential holds too many sockets, streams and waits open."""

    code = "live_connections"
    default_detail = "You have too many live connections open; close some, then try again."


def require_seat(key: str) -> None:
    """Check that the credential ``key`` may open one more connection.

    Raises:
        TooManyConnections
    """
    if _taken[key] >= limits.CONNECTIONS_PER_CREDENTIAL:
        raise TooManyConnections(retry_after=5, limit="live_connections")


@contextmanager
def seat(key: str) -> Iterator[None]:
    """Hold a place for one connection of the credential ``key`` (``Actor.key``).

    Raises:
        TooManyConnections
    """
    require_seat(key)
    _taken[key] += 1
    try:
        yield
    finally:
        _taken[key] -= 1
        if not _taken[key]:
            del _taken[key]
