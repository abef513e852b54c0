"""What a connection proves its caller with, and looking at it again while the connection lasts.

A credential is kept as it came, so that a revoked token, a logged-out session and a lost membership
end a connection that was opened before.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

from django.conf import settings
from django.contrib.auth import get_user, get_user_model
from django.db.models.functions import Now
from django.http import HttpRequest

from live import limits
from live.database import in_database
from rest.errors import NotFound, Unauthenticated
from rest.throttling import require_rate
from tenants.access import enter, require
from tenants.actor import Actor
from tenants.authentication import (
    actor_of_token,
    authenticate_session,
    authenticate_token,
    bearer,
)
from tenants.errors import InvalidToken, TokenExpired, TokenRevoked
from tenants.models import ApiToken, Tenant

SCOPE = "tasks:read"


class Credential(Protocol):
    """Something that stands for a caller."""

    def actor(self) -> Actor:
        """Return the caller as it is now. Synchronous: it asks the database.

        Raises:
            Unauthenticated
        """


@dataclass(frozen=True, slots=True)
class Token:
    """An API token's plain text."""

    raw: str

    def actor(self) -> Actor:
        return authenticate_token(self.raw)


@dataclass(frozen=True, slots=True)
class Session:
    """The key of a browser's session."""

    key: str

    def actor(self) -> Actor:
        actor = authenticate_session(self._user())
        if actor is None:
            raise Unauthenticated()
        return actor

    def _user(self) -> Any:
        request = HttpRequest()
        request.session = import_module(settings.SESSION_ENGINE).SessionStore(self.key)
        return get_user(request)


@dataclass(frozen=True, slots=True)
class Holder:
    """Whoever a one-time ticket was given to: a token, else a user."""

    user_id: int | None
    token_id: int | None

    def actor(self) -> Actor:
        if self.token_id is not None:
            return self._token_actor(self.token_id)
        if self.user_id is None:
            raise Unauthenticated()
        user = get_user_model().objects.filter(pk=self.user_id).first()
        actor = authenticate_session(user)
        if actor is None:
            raise Unauthenticated()
        return actor

    @staticmethod
    def _token_actor(token_id: int) -> Actor:
        row = ApiToken.objects.filter(pk=token_id).annotate(clock=Now()).first()
        if row is None:
            raise InvalidToken()
        if row.revoked_at is not None:
            raise TokenRevoked()
        if row.expires_at <= row.clock:
            raise TokenExpired()
        return actor_of_token(row)


@dataclass(slots=True)
class Visitor:
    """A caller inside a tenant, for as long as one connection lasts."""

    credential: Credential
    tenant: Tenant
    actor: Actor
    looked_at: float

    async def look_again(self) -> None:
        """Check that the caller may still be here, unless that was done just now.

        Raises:
            Unauthenticated, NotFound, ScopeRequired
        """
        if time.monotonic() - self.looked_at >= limits.RIGHTS_EVERY:
            await _look_again(self)
            self.looked_at = time.monotonic()


def admit(credential: Credential, slug: str, *, reason: str = "") -> Visitor:
    """Let a caller into a tenant to watch tasks. Synchronous.

    Raises:
        Unauthenticated, NotFound, ScopeRequired, OperatorReasonRequired, TooManyRequests
    """
    tenant, actor = enter(credential.actor(), slug, reason=reason)
    require(actor, SCOPE)
    require_rate(actor.key)
    return Visitor(credential, tenant, actor, time.monotonic())


def credential_of_request(request: HttpRequest) -> Credential:
    """Return what an HTTP request proves its caller with; a token wins over a session.

    Raises:
        Unauthenticated: nothing, or something unreadable.
    """
    raw = bearer(request.headers.get("Authorization"))
    if raw is not None:
        return Token(raw)
    key = request.COOKIES.get(settings.SESSION_COOKIE_NAME)
    if not key:
        raise Unauthenticated()
    return Session(key)


def _look(visitor: Visitor) -> None:
    now = visitor.credential.actor()
    if visitor.actor.kind != "operator":
        _, actor = enter(now, visitor.tenant.slug)
        require(actor, SCOPE)
    elif not now.operator:
        # Entering again would write into the trail each time that the operator has come anew.
        raise NotFound()


_look_again = in_database(_look)
