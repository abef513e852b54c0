"""Task types by name, read whole only when they have changed."""

from __future__ import annotations

from typing import NamedTuple

from django.db import connection

from tasks.models import TaskType
from tasks.selectors.routes import ROUTES_VERSION

# What PostgreSQL itself knows a row's version by, so that no writer can forget to change it.
ASK = f"""
SELECT (SELECT xmin::text || ctid::text FROM task_type WHERE name = %s),
       EXISTS (SELECT 1 FROM maintenance), {ROUTES_VERSION}
"""  # noqa: S608 - our own text

_read: dict[str, tuple[str, TaskType]] = {}


class Intake(NamedTuple):
    """What each submission asks for: its type, None if there is none; whether the operators have
    stopped the intake of tasks; the version of their rules, for :func:`tasks.selectors.routes.rules`.
    """

    task_type: TaskType | None
    stopped: bool
    routes: str | None


def intake(name: str) -> Intake:
    """Return what a submission of a type needs to know, as it is now.

    Every submission asks for it, and types change when workers of a new release start: so only the
    version is asked for each time. One query, two after a change. The type is shared by all that
    ask, so nobody may change it.
    """
    with connection.cursor() as cursor:
        cursor.execute(ASK, [name])
        version, stopped, routes = cursor.fetchone() or (None, False, None)
    if version is None:
        return Intake(None, stopped, routes)
    known = _read.get(name)
    if known is not None and known[0] == version:
        return Intake(known[1], stopped, routes)
    found = TaskType.objects.filter(name=name).first()
    if found is not None:
        _read[name] = (version, found)
    return Intake(found, stopped, routes)
