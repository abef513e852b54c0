"""Whether a batch task is held for off-peak windows, its tenant's or its type's, and until when."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from tasks.models import TaskType
from tenants.limits import WINDOWED
from tenants.models import Limit
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


def windows_in_use(now: datetime) -> list[dict[str, Any]]:
    """Return all windows that are set, for operators: whose, which, and whether they are open."""
    types = TaskType.objects.filter(windows__isnull=False).order_by("name")
    tenants = Limit.objects.filter(windows__isnull=False).order_by("tenant__slug")
    found: list[tuple[str, str, Any]] = [
        ("type", name, windows) for name, windows in types.values_list("name", "windows")
    ]
    found += [("tenant", *row) for row in tenants.values_list("tenant__slug", "windows")]
    return [
        {"subject": subject, "name": name, **windows, **(state_json(windows, now) or {})}
        for subject, name, windows in found
    ]
