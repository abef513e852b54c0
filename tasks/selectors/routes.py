"""The operators' routing rules, read only when they have changed, and how long tasks will take."""

from __future__ import annotations

from typing import Any

from rest.errors import NotFound
from rest.times import rfc3339
from tasks.models import Estimate, Route
from tasks.routing import Rule

# A trigger makes a change of rules one of limits, whose one row is at hand: what PostgreSQL itself knows
# its version by, as with task types; null while there are no rules.
ROUTES_VERSION = (
    "CASE WHEN EXISTS (SELECT 1 FROM route)"
    " THEN (SELECT xmin::text || ctid::text FROM limits_revision) END"
)

_read: tuple[str | None, tuple[Rule, ...]] = (None, ())


def rules(version: str | None) -> tuple[Rule, ...]:
    """Return the rules in their order, where ``version`` is what :data:`ROUTES_VERSION` gave.

    No query, but for one after each change of rules or limits.
    """
    global _read
    if version is None:
        return ()
    known = _read
    if known[0] != version:
        found = tuple(
            Rule(row.name, row.queue, row.tenant_id, row.type, row.labels, row.over, row.under)
            for row in sorted(Route.objects.all(), key=route_order)
        )
        known = _read = (version, found)
    return known[1]


def route_order(route: Route) -> tuple[int, str]:
    """Return what rules are sorted by, in the list and when they are asked, whatever the collation."""
    return route.position, route.name


def estimated_seconds(type_id: int, tenant_id: int) -> float | None:
    """Return how long a run of a type takes: the tenant's own, else all tenants', else None."""
    found = Estimate.objects.filter(type_id=type_id, tenant_id__in=(0, tenant_id))
    return found.order_by("-tenant_id").values_list("seconds", flat=True).first()


def route_get(name: str) -> Route:
    """Return one rule.

    Raises:
        NotFound
    """
    route = Route.objects.select_related("tenant").filter(name=name).first()
    if route is None:
        raise NotFound()
    return route


def route_json(route: Route) -> dict[str, Any]:
    """Return a rule for operators; ``match`` has what it asks for and nothing else."""
    match = {
        "type": route.type,
        "labels": route.labels or None,
        "tenant": route.tenant.slug if route.tenant else None,
        "estimated_seconds_over": route.over,
        "estimated_seconds_under": route.under,
    }
    return {
        "name": route.name,
        "position": route.position,
        "match": {name: value for name, value in match.items() if value is not None},
        "queue": route.queue,
        "by": route.by,
        "updated_at": rfc3339(route.updated_at),
    }
