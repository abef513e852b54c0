"""The monthly partitions of events and logs (migration 0002 explains how they are cut)."""

from __future__ import annotations

from django.db import connection

MONTHS_AHEAD = 3
"""So many months' partitions wait ready; a row beyond them would go to the default partition."""


def ensure_history_partitions(ahead: int = MONTHS_AHEAD) -> int:
    """Make the partitions of this month and the ``ahead`` next ones; return how many were missing."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT ensure_history_partitions(%s)", [ahead])
        row = cursor.fetchone()
    return int(row[0]) if row else 0
