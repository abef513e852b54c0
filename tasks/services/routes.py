"""Changing the operators' routing rules; each change is audited and holds from the next submit on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from django.db import connection, transaction
from django.db.models import Max
from django.db.models.functions import Now

from audit.services import record
from rest.errors import ValidationFailed
from tasks.models import Route
from tasks.selectors.routes import route_get, route_json
from tenants.actor import Actor
from tenants.models import Tenant

MOST_ROUTES = 200
"""So many rules are looked through with each submit at most."""

STRIDE = 10
"""How far behind the last rule a new one stands, so that others can be put between them."""


def route_put(
    *,
    actor: Actor,
    name: str,
    match: Mapping[str, Any],
    queue: str,
    position: int | None = None,
    check: Callable[[int | None], None] = lambda version: None,
) -> tuple[Route, bool]:
    """Make a rule, or replace all of it; return it and whether it is new.

    ``match`` has the API's members. Without a ``position`` a new rule is the last, and one that is
    replaced stays where it is. ``check`` sees the version of the rule that is replaced, None where
    there is none, under the lock.

    Raises:
        ValidationFailed: ``match`` names no tenant that exists, or there are too many rules.
    """
    with _one_at_a_time():
        route = Route.objects.filter(name=name).first()
        made = route is None
        check(None if route is None else route.version)
        if route is None:
            if Route.objects.count() >= MOST_ROUTES:
                detail = f"There are {MOST_ROUTES} rules already; delete one, or make one more general."
                raise ValidationFailed.at("", "too_many", detail)
            last = Route.objects.aggregate(last=Max("position"))["last"] or 0
            route = Route(name=name, position=last + STRIDE, version=0)
        route.tenant = _tenant(match.get("tenant"))
        route.type = match.get("type")
        route.labels = dict(match.get("labels") or {})
        route.over = match.get("estimated_seconds_over")
        route.under = match.get("estimated_seconds_under")
        route.queue = queue
        route.position = route.position if position is None else position
        route.by = actor.name
        route.updated_at = Now()
        route.version += 1
        route.save()
        route.refresh_from_db(fields=["updated_at"])
        _record(actor, "route.set", route)
    return route, made


def route_delete(
    *, actor: Actor, name: str, check: Callable[[int], None] = lambda version: None
) -> None:
    """Delete a rule; tasks that it has routed stay where they are.

    Raises:
        NotFound
    """
    with _one_at_a_time():
        route = route_get(name)
        check(route.version)
        _record(actor, "route.delete", route)
        route.delete()


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Make what is inside a transaction that changes rules alone: their order concerns all of them."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("LOCK TABLE route IN SHARE ROW EXCLUSIVE MODE")
        yield


def _tenant(slug: str | None) -> Tenant | None:
    if slug is None:
        return None
    tenant = Tenant.objects.filter(slug=slug).first()
    if tenant is None:
        detail = f"There is no tenant {slug}."
        raise ValidationFailed.at("/match/tenant", "unknown_tenant", detail)
    return tenant


def _record(actor: Actor, action: str, route: Route) -> None:
    record(
        actor=actor.name,
        action=action,
        object=f"route:{route.name}",
        tenant_id=route.tenant_id,
        reason=actor.reason,
        data=route_json(route),
    )
