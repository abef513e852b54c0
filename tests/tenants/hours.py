"""Off-peak windows that are open or closed whatever the time of the test."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from tenants.windows import DAYS

ALWAYS: dict[str, Any] = {
    "zone": "UTC",
    "windows": [{"days": list(DAYS), "from": "00:00", "to": "24:00"}],
}


def closed_for_days() -> dict[str, Any]:
    """Return windows that open at 22:00 in Berlin three days from now."""
    day = DAYS[(datetime.now(UTC) + timedelta(days=3)).weekday()]
    return {"zone": "Europe/Berlin", "windows": [{"days": [day], "from": "22:00", "to": "06:00"}]}


def around(opening: datetime, minutes: int = 5) -> dict[str, Any]:
    """Return windows that open at a time, every day, for some minutes."""
    at, end = (moment.astimezone(UTC) for moment in (opening, opening + timedelta(minutes=minutes)))
    span = {"days": list(DAYS), "from": f"{at:%H:%M}", "to": f"{end:%H:%M}"}
    return {"zone": "UTC", "windows": [span]}
