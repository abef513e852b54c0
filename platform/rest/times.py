"""Times as the API writes them: RFC 3339, UTC, ``Z``; microseconds only where there are some."""

from __future__ import annotations

from datetime import UTC, datetime


def rfc3339(moment: datetime | None) -> str | None:
    """Render an aware time in UTC; ``None`` stays ``None``.

    Raises:
        ValueError: when the time has no zone, since guessing one would be a lie.
    """
    if moment is None:
        return None
    if moment.tzinfo is None:
        raise ValueError("a time without a zone cannot be rendered")
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
