"""Issue and revoke API tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta

from django.db import IntegrityError, transaction
from django.db.models.functions import Now

from audit.services import record
from rest.errors import ValidationFailed
from rest.text import clean_text
from tenants.actor import Actor
from tenants.errors import OperatorRequired, ScopesExceeded
from tenants.models import ApiToken, Tenant
from tenants.scopes import ALL, SCOPES, expand
from tenants.tokens import generate, hash_of, write

# Every token ends some day: one that was forgotten must not work for ever.
DEFAULT_LIFETIME = timedelta(days=365)
LONGEST_LIFETIME = timedelta(days=3650)


def token_issue(
    *,
    tenant: Tenant,
    actor: Actor,
    name: str,
    scopes: Iterable[str],
    expires_in: timedelta | None = None,
) -> tuple[ApiToken, str]:
    """Issue a token of the tenant; return its row and its plain text, which exists only here.

    Raises:
        ValidationFailed: there is no such scope.
        ScopesExceeded: the issuer does not hold a scope that the token would get.
    """
    wanted = list(dict.fromkeys(scopes))
    for index, scope in enumerate(wanted):
        if scope != ALL and scope not in SCOPES:
            raise ValidationFailed.at(
                f"/scopes/{index}", "unknown_scope", f"There is no scope {scope[:60]!r}."
            )
    missing = expand(wanted) - expand(actor.scopes)
    if missing:
        raise ScopesExceeded(sorted(missing))
    return _issue(
        actor=actor, tenant=tenant, operator=False, name=name, scopes=wanted, lifetime=expires_in
    )


def operator_token_issue(
    *, actor: Actor, name: str, expires_in: timedelta | None = None
) -> tuple[ApiToken, str]:
    """Issue a platform operator's token.

    Raises:
        OperatorRequired: the issuer is none.
    """
    if not actor.operator:
        raise OperatorRequired()
    return _issue(actor=actor, tenant=None, operator=True, name=name, scopes=[ALL], lifetime=expires_in)


def token_version(token: ApiToken) -> str:
    """Return what its revocation alone changes: a token is used all the time, and edited never."""
    return "issued" if token.revoked_at is None else "revoked"


def token_revoke(
    *, actor: Actor, token: ApiToken, check: Callable[[str], None] = lambda version: None
) -> ApiToken:
    """Revoke a token at once; revoking it again changes nothing.

    ``check`` sees its version first, under the lock.
    """
    with transaction.atomic():
        locked = ApiToken.objects.select_for_update().get(pk=token.pk)
        check(token_version(locked))
        if locked.revoked_at is None:
            ApiToken.objects.filter(pk=token.pk).update(revoked_at=Now())
            record(
                actor=actor.name,
                action="token.revoke",
                object=f"token:{token.uid}",
                tenant_id=token.tenant_id,
                reason=actor.reason,
                data={"name": token.name},
            )
    token.refresh_from_db(fields=["revoked_at"])
    return token


def _issue(
    *,
    actor: Actor,
    tenant: Tenant | None,
    operator: bool,
    name: str,
    scopes: list[str],
    lifetime: timedelta | None,
) -> tuple[ApiToken, str]:
    name = clean_text(name, max_length=100)
    lifetime = DEFAULT_LIFETIME if lifetime is None else min(lifetime, LONGEST_LIFETIME)
    with transaction.atomic():
        while True:
            parts = generate()
            try:
                with transaction.atomic():
                    token = ApiToken.objects.create(
                        tenant=tenant,
                        operator=operator,
                        name=name,
                        prefix=parts.prefix,
                        hash=hash_of(parts.secret),
                        scopes=scopes,
                        created_by=actor.name,
                        expires_at=Now() + lifetime,
                    )
            except IntegrityError:
                if not ApiToken.objects.filter(prefix=parts.prefix).exists():
                    raise
                continue  # the prefix was in use: once in 10^14 tokens
            break
        record(
            actor=actor.name,
            action="token.issue",
            object=f"token:{token.uid}",
            tenant_id=token.tenant_id,
            reason=actor.reason,
            data={"name": name, "scopes": scopes, "operator": operator},
        )
    token.refresh_from_db()
    return token, write(parts)
