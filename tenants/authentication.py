"""From a credential to an actor: API tokens and browser sessions.

Plain functions do the work, so that sockets use the same; the DRF classes only fetch the
credential. The actors that they return know no role yet: ``tenants.access.enter`` decides that.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import cache
from typing import Any

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db import connection
from django.db.models import Model, Q
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse
from rest_framework import authentication
from rest_framework.authentication import CSRFCheck
from rest_framework.request import Request

from rest.pages import CSRFFailed
from rest.statements import Statement, ask
from tenants.actor import Actor
from tenants.errors import InvalidToken, TokenExpired, TokenRevoked
from tenants.models import ApiToken, Tenant
from tenants.scopes import ALL
from tenants.tokens import NOBODY, TokenParts, matches, read

USED_EVERY = timedelta(minutes=1)
_NO_PARTS = TokenParts("", "")


def authenticate_token(raw: str) -> Actor:
    """Return the actor of a token's plain text. Synchronous, one query (two once a minute).

    Raises:
        InvalidToken: unknown or malformed, without telling which.
        TokenExpired, TokenRevoked: only to one who knows the secret.
    """
    parts = read(raw)
    row = _find(parts.prefix) if parts is not None else None
    # Compared in every case, so that the time taken does not tell whether the prefix exists.
    right = matches(row.hash if row else NOBODY, (parts or _NO_PARTS).secret)
    if row is None or not right:
        raise InvalidToken()
    if row.revoked_at is not None:
        raise TokenRevoked()
    if row.expires_at <= row.clock:
        raise TokenExpired()
    if row.last_used_at is None or row.last_used_at <= row.clock - USED_EVERY:
        _mark_used(row.pk)
    return actor_of_token(row)


def _find(prefix: str) -> Any:
    """Return a token's row with its tenant's, and ``clock``, the database's time."""
    found = ask(_statement().of({"prefix": prefix}))[0]
    if found is None:
        return None
    token, tenant, clock = found
    row: Any = _from_json(ApiToken, token)
    row.clock = datetime.fromisoformat(clock)
    if row.tenant_id is not None:
        row.tenant = _from_json(Tenant, tenant)
    return row


@cache
def _statement() -> Statement:
    """Return the query of :func:`_find`. Every request asks it."""
    return Statement(f"""
        SELECT json_build_array({_as_json(ApiToken, "token")}, {_as_json(Tenant, "tenant")},
                                statement_timestamp())
          FROM {ApiToken._meta.db_table} token
          LEFT JOIN {Tenant._meta.db_table} tenant ON tenant.id = token.tenant_id
         WHERE token.prefix = %(prefix)s
    """)  # noqa: S608 - our own names


def _as_json(model: type[Model], alias: str) -> str:
    columns = ", ".join(f"{alias}.{field.column}" for field in model._meta.concrete_fields)
    return f"json_build_array({columns})"


def _from_json(model: type[Model], values: list[Any]) -> Model:
    fields = model._meta.concrete_fields
    read = [field.to_python(value) for field, value in zip(fields, values, strict=True)]
    return model.from_db(connection.alias, [field.attname for field in fields], read)


def actor_of_token(row: ApiToken) -> Actor:
    """Return the actor that a token's row stands for."""
    if row.operator:
        return Actor(
            kind="operator",
            name=f"operator:{row.name}",
            token_id=row.pk,
            scopes=frozenset({ALL}),
            operator=True,
        )
    return Actor(
        kind="token",
        name=f"token:{row.name}",
        tenant_id=row.tenant_id,
        scopes=frozenset(row.scopes),
        token_id=row.pk,
        home=row._state.fields_cache.get("tenant"),
    )


def authenticate_session(user: AbstractBaseUser | AnonymousUser | None) -> Actor | None:
    """Return the actor of a logged-in, active user; ``None`` for anybody else."""
    if user is None or not user.is_authenticated or not user.is_active:
        return None
    return Actor(
        kind="user",
        name=f"user:{user.get_username()}",
        user_id=user.pk,
        operator=bool(getattr(user, "is_staff", False)),
    )


def bearer(header: str | None) -> str | None:
    """Return the token in an ``Authorization`` header; ``None`` when there is no header.

    Raises:
        InvalidToken: the header is of another scheme or form.
    """
    if not header:
        return None
    scheme, _, raw = header.partition(" ")
    if scheme.lower() != "bearer" or not raw:
        raise InvalidToken()
    return raw.strip()


def _mark_used(token_id: int) -> None:
    """Move ``last_used_at``; of many at once only the first finds it old."""
    ApiToken.objects.filter(
        Q(last_used_at=None) | Q(last_used_at__lte=Now() - USED_EVERY), pk=token_id
    ).update(last_used_at=Now())


def _no_view(request: HttpRequest) -> HttpResponse:
    """Stand in for the view that Django's CSRF check wants to wrap; it is never called."""
    return HttpResponse()


class TokenAuthentication(authentication.BaseAuthentication):
    """``Authorization: Bearer sy_…``. A request that carries one is never judged by its cookies."""

    def authenticate(self, request: Request) -> tuple[Any, Actor] | None:
        raw = bearer(request.headers.get("Authorization"))
        return None if raw is None else (AnonymousUser(), authenticate_token(raw))

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class SessionAuthentication(authentication.BaseAuthentication):
    """A browser's session; whatever changes something needs the CSRF token."""

    def authenticate(self, request: Request) -> tuple[Any, Actor] | None:
        user = getattr(request._request, "user", None)
        actor = authenticate_session(user)
        if actor is None:
            return None
        check = CSRFCheck(_no_view)
        check.process_request(request._request)
        if check.process_view(request._request, _no_view, (), {}):
            raise CSRFFailed()
        return user, actor
