"""Task types of which nothing may start: paused by operators, or outside their off-peak windows.

Their tasks are parked when their turn comes, and brought back when nothing holds the type any more.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from django.db import connection

from rest.ties import again_on_ties
from tasks.models import Pause, TaskType
from tenants.limits import WINDOWED
from tenants.windows import Windows, windows_of
from workers.dispatcher.off_peak import Calendar
from workers.dispatcher.store import NAME

LET_GO = """
WITH led AS (
  SELECT 1 FROM leader WHERE name = %(name)s AND epoch = %(leader)s FOR SHARE
), gone AS (
  DELETE FROM parked p USING led
   WHERE (p.reason = 'paused' AND p.type_id <> ALL(%(paused)s::int[]))
      OR (p.reason = 'off_peak' AND p.type_id <> ALL(%(closed)s::int[]))
  RETURNING p.*
)
INSERT INTO ready (task_id, queue, tenant_id, rank, ordinal, epoch, type_id, type_version, preemptible)
SELECT task_id, queue, tenant_id, rank, ordinal, epoch, type_id, type_version, preemptible FROM gone
RETURNING queue, tenant_id
"""


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

    @again_on_ties
    def let_go(self, leader: int) -> set[tuple[str, int]]:
        """Bring tasks back whose type nothing holds any more; return the lanes that have grown."""
        closed = [type_id for type_id, each in self._windows.items() if self._calendar.closed(each)]
        with connection.cursor() as cursor:
            cursor.execute(
                LET_GO,
                {"name": NAME, "leader": leader, "paused": list(self._paused), "closed": closed},
            )
            return {(row[0], row[1]) for row in cursor.fetchall()}
