"""Task types by name, read whole only when they have changed."""

from __future__ import annotations

from django.db import connection

from tasks.models import TaskType

# What PostgreSQL itself knows a row's version by, so that no writer can forget to change it.
ASK = """
SELECT (SELECT xmin::text || ctid::text FROM task_type WHERE name = %s),
       EXISTS (SELECT 1 FROM maintenance)
"""

_read: dict[str, tuple[str, TaskType]] = {}


def intake(name: str) -> tuple[TaskType | None, bool]:
    """Return the task type as it is now, and whether the operators have stopped the intake of tasks.

    Every submission asks for both, and types change when workers of a new release start: so only the
    version is asked for each time. One query, two after a change. The type is shared by all that
    ask, so nobody may change it.
    """
    with connection.cursor() as cursor:
        cursor.execute(ASK, [name])
        version, stopped = cursor.fetchone() or (None, False)
    if version is None:
        return None, stopped
    known = _read.get(name)
    if known is not None and known[0] == version:
        return known[1], stopped
    found = TaskType.objects.filter(name=name).first()
    if found is not None:
        _read[name] = (version, found)
    return found, stopped
