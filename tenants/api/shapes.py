"""What the API shows of tenants, tokens and members."""

from __future__ import annotations

from typing import Any

from rest.times import rfc3339
from tenants.models import ApiToken, Membership, Tenant


def tenant_shape(tenant: Tenant) -> dict[str, Any]:
    """A tenant as its members see it."""
    return {
        "id": str(tenant.uid),
        "slug": tenant.slug,
        "name": tenant.name,
        "created_at": rfc3339(tenant.created_at),
        "paused": tenant.paused,
        "network_permitted": tenant.network_permitted,
    }


def token_shape(token: ApiToken) -> dict[str, Any]:
    """A token without its secret."""
    return {
        "id": str(token.uid),
        "name": token.name,
        "prefix": token.prefix,
        "scopes": token.scopes,
        "created_by": token.created_by,
        "created_at": rfc3339(token.created_at),
        "expires_at": rfc3339(token.expires_at),
        "revoked_at": rfc3339(token.revoked_at),
        "last_used_at": rfc3339(token.last_used_at),
    }


def member_shape(member: Membership) -> dict[str, Any]:
    """A member as the other members see it."""
    return {
        "user": member.user.get_username(),
        "role": member.role,
        "created_at": rfc3339(member.created_at),
    }
