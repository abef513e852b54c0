"""Scopes and roles: the words of permission, and which role holds which scopes."""

from __future__ import annotations

from collections.abc import Iterable

ALL = "*"
# fmt: off
SCOPES = frozenset(
    {
        "audit:read", "connections:read", "connections:write", "documents:delete",
        "documents:read", "documents:write", "kv:delete", "kv:read", "kv:write",
        "limits:read", "logs:delete", "members:read", "members:write", "schedules:read",
        "schedules:write", "secrets:read", "secrets:write", "tasks:admin", "tasks:raise",
        "tasks:read", "tasks:write", "tokens:read", "tokens:write", "webhooks:read", "webhooks:write",
    }
)
# fmt: on

OWNER, ADMIN, MEMBER, VIEWER = "owner", "admin", "member", "viewer"
ROLES = (OWNER, ADMIN, MEMBER, VIEWER)

_READ = frozenset(scope for scope in SCOPES if scope.endswith(":read"))
_WRITE = frozenset({"tasks:write", "schedules:write", "documents:write", "kv:write"})
_HELD: dict[str, frozenset[str]] = {
    VIEWER: _READ,
    MEMBER: _READ | _WRITE,
    ADMIN: SCOPES,
    OWNER: frozenset({ALL}),
}


def scopes_of(role: str) -> frozenset[str]:
    """Return what a role may do; an unknown role may do nothing."""
    return _HELD.get(role, frozenset())


def expand(scopes: Iterable[str]) -> frozenset[str]:
    """Write ``*`` out as every scope that there is."""
    held = frozenset(scopes)
    return SCOPES if ALL in held else held
