"""Reading tenants, tokens, members and limits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from django.db.models import QuerySet, Sum

from rest.errors import NotFound
from rest.statements import Statement, ask
from tenants.actor import Actor
from tenants.limits import DEFAULT_WEIGHT, QUEUE_LIMITS, QUEUES, WHOLE, WINDOWED
from tenants.models import ApiToken, Limit, Membership, Tenant

LIMIT_ROWS = """
(SELECT json_agg(l)
   FROM (SELECT queue, running, queued, min_running, submit_per_second, dispatch_per_second,
                running_per_key, weight, windows
           FROM tenants_limit WHERE tenant_id = %(tenant)s) l)
"""
"""A value of SQL for :func:`limits_shape`, by the tenant's id."""
LIMITS = Statement(f"SELECT {LIMIT_ROWS}")


def tenants_visible(actor: Actor) -> QuerySet[Tenant]:
    """Return the tenants that the caller belongs to; a platform operator sees all."""
    if actor.operator:
        return Tenant.objects.all()
    if actor.user_id is not None:
        return Tenant.objects.filter(memberships__user_id=actor.user_id)
    if actor.tenant_id is None:
        return Tenant.objects.none()
    return Tenant.objects.filter(pk=actor.tenant_id)


def tokens_of(tenant: Tenant) -> QuerySet[ApiToken]:
    """Return the tenant's tokens, also the expired and revoked ones."""
    return ApiToken.objects.filter(tenant=tenant)


def token_get(tenant: Tenant, uid: UUID) -> ApiToken:
    """Return one token of the tenant.

    Raises:
        NotFound
    """
    token = tokens_of(tenant).filter(uid=uid).first()
    if token is None:
        raise NotFound()
    return token


def members_of(tenant: Tenant) -> QuerySet[Membership]:
    """Return the tenant's members with their users."""
    return Membership.objects.filter(tenant=tenant).select_related("user")


def member_get(tenant: Tenant, username: str) -> Membership:
    """Return one member by user name.

    Raises:
        NotFound
    """
    member = members_of(tenant).filter(user__username__iexact=username).first()
    if member is None:
        raise NotFound()
    return member


def limits_for(tenant: Tenant) -> dict[str, Any]:
    """Return the tenant's limits in the shape of ``PUT /limits``, every member present.

    ``{"running", "queued", "submit_per_second", "dispatch_per_second", "running_per_key", "weight",
    "queues": {name: {"running", "min_running", "queued"}}}``, and ``windows`` of the batch queue; null
    is no limit.
    """
    return limits_shape(ask(LIMITS.of({"tenant": tenant.pk}))[0])


def limits_shape(found: Iterable[Mapping[str, Any]] | None) -> dict[str, Any]:
    """Return :data:`LIMIT_ROWS` in the shape of ``PUT /limits``."""
    rows = {row["queue"]: row for row in found or ()}
    whole = rows.get(WHOLE, {})
    return {
        "running": whole.get("running"),
        "queued": whole.get("queued"),
        "submit_per_second": whole.get("submit_per_second"),
        "dispatch_per_second": whole.get("dispatch_per_second"),
        "running_per_key": whole.get("running_per_key"),
        "weight": whole.get("weight", DEFAULT_WEIGHT),
        "queues": {
            name: {
                kind: rows.get(name, {}).get(kind)
                for kind in (*QUEUE_LIMITS, *(("windows",) if name == WINDOWED else ()))
            }
            for name in QUEUES
        },
    }


def limits_version(tenant: Tenant) -> int:
    """Return a number that grows with each change of the tenant's limits."""
    return Limit.objects.filter(tenant=tenant).aggregate(sum=Sum("version"))["sum"] or 0
