"""Task types of which nothing may start: paused by operators, or outside their off-peak windows.

Their tasks are parked when their turn comes, and brought back when nothing holds the type any more
(:mod:`workers.dispatcher.parked`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from tasks.models import Pause, TaskType
from tenants.limits import WINDOWED
from tenants.windows import Windows, windows_of
from workers.dispatcher.off_peak import Calendar


class HeldTypes:
    """What holds task types, by their ids; which windows are closed is the calendar's to tell."""

    def __init__(self, calendar: Calendar) -> None:
        self._calendar = calendar
        self._paused: set[int] = set()
        self._windows: Mapping[int, Windows] = {}

    def read(self) -> set[str]:
        """Read pauses and windows anew, after limits have changed; return the paused queues."""
        paused: dict[str, set[str]] = {"queue": set(), "type": set()}
        for subject, name in Pause.objects.values_list("subject", "name"):
            paused[subject].add(name)
        types = TaskType.objects.filter(name__in=paused["type"])
        self._paused = set(types.values_list("pk", flat=True))
        found = TaskType.objects.filter(windows__isnull=False).values_list("pk", "windows")
        read = {type_id: windows_of(windows) for type_id, windows in found}
        self._windows = {type_id: windows for type_id, windows in read.items() if windows is not None}
        return paused["queue"]

    def windows(self) -> Collection[Windows]:
        """Return the windows that some type has."""
        return self._windows.values()

    def why(self, queue: str, type_id: int) -> str:
        """Return the reason for which a type's tasks may not start in a queue, or ""."""
        if type_id in self._paused:
            return "paused"
        windows = self._windows.get(type_id) if queue == WINDOWED else None
        return "off_peak" if windows is not None and self._calendar.closed(windows) else ""

    def held_for(self, reason: str) -> set[int]:
        """Return the types of which nothing may start for a reason, in whatever queue it is parked."""
        if reason == "paused":
            return self._paused
        return {type_id for type_id, each in self._windows.items() if self._calendar.closed(each)}
