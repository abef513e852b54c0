"""Task types by name, read whole only when they have changed."""

from __future__ import annotations

from typing import Any, NamedTuple

from rest.statements import Statement, ask
from tasks.models import TaskType
from tasks.selectors.routes import ROUTES_VERSION
from tenants.selectors import LIMIT_ROWS, limits_shape

# What PostgreSQL itself knows a row's version by, so that no writer can forget to change it.
ASK = Statement(f"""
SELECT json_build_array(
  (SELECT xmin::text || ctid::text FROM task_type WHERE name = %(type)s),
  EXISTS (SELECT 1 FROM maintenance), {ROUTES_VERSION}, {LIMIT_ROWS})
""")  # noqa: S608 - our own text

_read: dict[str, tuple[str, TaskType]] = {}


class Intake(NamedTuple):
    """What each submission asks for: its type, None if there is none; whether the operators have
    stopped the intake of tasks; the version of their rules, for :func:`tasks.selectors.routes.rules`;
    the tenant's limits in the shape of ``PUT /limits``.
    """

    task_type: TaskType | None
    stopped: bool
    routes: str | None
    limits: dict[str, Any]


def intake(name: str, tenant_id: int) -> Intake:
    """Return what a tenant's submission of a type needs to know, as it is now.

    Every submission asks for it, and types change when workers of a new release start: so only the
    version is asked for each time. One query, two after a change. The type is shared by all that
    ask, so nobody may change it.
    """
    version, stopped, routes, limits = ask(ASK.of({"type": name, "tenant": tenant_id}))[0]
    return Intake(_type_of(name, version), stopped, routes, limits_shape(limits))


def _type_of(name: str, version: str | None) -> TaskType | None:
    """Return a type, read anew if what is known of it is not this version."""
    if version is None:
        return None
    known = _read.get(name)
    if known is not None and known[0] == version:
        return known[1]
    found = TaskType.objects.filter(name=name).first()
    if found is not None:
        _read[name] = (version, found)
    return found
