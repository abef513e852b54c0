"""How long to wait before a request is sent again."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


@dataclass(frozen=True, slots=True)
class Backoff:
    """Growing waits with jitter: `first`, then `factor` times more, at most `longest` seconds.

    Half of each wait is random, so that many clients that lost one server do not come back at the
    same moment. `attempts` is how often a request is sent in all. A server that asks (Retry-After)
    for more than `longest` means more than a hiccup: the request then fails at once.
    """

    attempts: int = 6
    first: float = 0.2
    factor: float = 2.0
    longest: float = 15.0

    def pause(self, failures: int) -> float:
        """Return the wait after that many failures in a row, in seconds."""
        whole = min(self.longest, self.first * self.factor ** min(failures - 1, 30))
        return whole * random.uniform(0.5, 1.0)  # noqa: S311 (jitter, not a secret)

    def again(self, failures: int, asked: float | None) -> float | None:
        """Return the wait before the next attempt; None when there is to be none."""
        if failures >= self.attempts or (asked is not None and asked > self.longest):
            return None
        own = self.pause(failures)
        return own if asked is None else asked + min(own, 0.5)


def retry_after(header: str | None, now: datetime | None = None) -> float | None:
    """Return what a Retry-After header asks for, in seconds from now; None without one.

    It is a number of seconds or an HTTP date (RFC 9110, 10.2.3).
    """
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, (when - (now or datetime.now(UTC))).total_seconds())
