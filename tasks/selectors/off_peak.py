"""Whether a batch task is held for off-peak windows, its tenant's or its type's, and until when."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from tenants.limits import WINDOWED
from tenants.windows import first_opening, state_json, windows_of

Stored = Mapping[str, Any] | None
"""Windows as they are stored and as the API shows them."""


class Held(NamedTuple):
    """Why a task is held, for people, and until when; None where that cannot be told."""

    detail: str
    until: datetime | None


def held(tenant: str, type_name: str, of_tenant: Stored, of_type: Stored, now: datetime) -> Held | None:
    """Return what holds a task of the batch queue at an instant, or None."""
    whose = {f"the type {type_name}": windows_of(of_type), tenant: windows_of(of_tenant)}
    for name, windows in whose.items():
        if windows is not None and not windows.is_open(now):
            until = first_opening(tuple(whose.values()), now)
            return Held(f"{WINDOWED} tasks of {name} are held until {windows.told(until)}.", until)
    return None


def windows_json(subject: str, name: str, windows: Stored, now: datetime) -> dict[str, Any]:
    """Return windows for operators: whose they are, which, and whether they are open and until when."""
    shown = windows or {"zone": "UTC", "windows": []}
    state = state_json(windows, now) or {"open": True, "until": None}
    return {"subject": subject, "name": name, **shown, **state}
