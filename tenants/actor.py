"""Who is acting: one plain value that views, sockets and services pass along."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from tenants.scopes import ALL

Kind = Literal["user", "token", "operator", "system"]


@dataclass(frozen=True, slots=True)
class Actor:
    """A caller, and inside a tenant what it may do there.

    ``name`` is what is stored in ``submitted_by`` and the trail: ``user:alice``, ``token:ci``,
    ``operator:root``, ``system``. Names may be used again; ``key`` (``token:7``, ``user:3``) never
    is: compare that to know whether two deeds are of one caller. ``operator`` is a platform
    operator's token or a staff user, also where that user is an ordinary member. ``reason`` is the
    operator's, from ``X-Operator-Reason``. ``home`` is the row of a token's tenant, read together
    with the token.
    """

    kind: Kind
    name: str
    tenant_id: int | None = None
    role: str | None = None
    scopes: frozenset[str] = frozenset()
    user_id: int | None = None
    token_id: int | None = None
    operator: bool = False
    reason: str = ""
    home: Any = field(default=None, compare=False, repr=False)

    def can(self, scope: str) -> bool:
        """Tell whether this caller holds the scope."""
        return ALL in self.scopes or scope in self.scopes

    @property
    def key(self) -> str:
        """Return an identity that is never given to anybody else."""
        if self.token_id is not None:
            return f"token:{self.token_id}"
        if self.user_id is not None:
            return f"user:{self.user_id}"
        return self.kind

    @property
    def idempotency_scope(self) -> str:
        """Return whose Idempotency-Keys these are: the tenant's, or outside of one the caller's."""
        return f"tenant:{self.tenant_id}" if self.tenant_id is not None else self.key


SYSTEM = Actor(kind="system", name="system", scopes=frozenset({ALL}), operator=True)
