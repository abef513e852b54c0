"""Add, change and remove members; a tenant's last owner stays."""

from __future__ import annotations

from collections.abc import Callable

from django.contrib.auth.models import AbstractBaseUser
from django.db import IntegrityError, transaction

from audit.services import record
from rest.errors import NotFound
from tenants.actor import Actor
from tenants.errors import AlreadyMember, LastOwner, RoleRequired, ScopesExceeded
from tenants.models import Membership, Tenant
from tenants.scopes import OWNER, expand, scopes_of


def member_add(*, actor: Actor, tenant: Tenant, user: AbstractBaseUser, role: str) -> Membership:
    """Make a user a member.

    Raises:
        AlreadyMember
        RoleRequired: only an owner (or a platform operator) makes owners.
        ScopesExceeded: the role may do what the actor may not.
    """
    _within_own(actor, role)
    with transaction.atomic():
        try:
            with transaction.atomic():
                member = Membership.objects.create(tenant=tenant, user_id=user.pk, role=role)
        except IntegrityError:
            raise AlreadyMember() from None
        _tell(actor, tenant, "member.add", user.get_username(), role)
    return member


def member_role_set(
    *,
    actor: Actor,
    tenant: Tenant,
    member: Membership,
    role: str,
    check: Callable[[Membership], None] = lambda member: None,
) -> Membership:
    """Give a member another role; ``check`` sees the locked row first (for ``If-Match``).

    Raises:
        NotFound: the member is gone meanwhile.
        LastOwner
        RoleRequired: only an owner (or a platform operator) touches owners.
        ScopesExceeded: a role, given or taken, may do what the actor may not.
    """
    with transaction.atomic():
        locked = _lock(tenant, member)
        check(locked)
        if locked.role == role:
            return locked
        _within_own(actor, role, locked.role)
        if locked.role == OWNER:
            _another_owner(tenant, locked)
        locked.role = role
        locked.version += 1
        locked.save(update_fields=["role", "version"])
        _tell(actor, tenant, "member.role", locked.user.get_username(), role)
    return locked


def member_remove(
    *,
    actor: Actor,
    tenant: Tenant,
    member: Membership,
    check: Callable[[Membership], None] = lambda member: None,
) -> None:
    """Remove a member; ``check`` as for :func:`member_role_set`.

    Raises:
        NotFound: the member is gone meanwhile.
        LastOwner
        RoleRequired: only an owner (or a platform operator) touches owners.
        ScopesExceeded: a role, given or taken, may do what the actor may not.
    """
    with transaction.atomic():
        locked = _lock(tenant, member)
        check(locked)
        _within_own(actor, locked.role)
        if locked.role == OWNER:
            _another_owner(tenant, locked)
        username = locked.user.get_username()
        locked.delete()
        _tell(actor, tenant, "member.remove", username, "")


def _lock(tenant: Tenant, member: Membership) -> Membership:
    """Lock the tenant first, so that two owners cannot remove each other at the same time.

    Raises:
        NotFound: the member was removed while we waited.
    """
    Tenant.objects.select_for_update().get(pk=tenant.pk)
    found = Membership.objects.select_for_update(of=("self",)).select_related("user")
    locked = found.filter(pk=member.pk).first()
    if locked is None:
        raise NotFound()
    return locked


def _within_own(actor: Actor, *roles: str) -> None:
    """Let nobody give or take a role that may do more: it would give what the actor lacks."""
    if actor.operator:
        return
    if OWNER in roles and actor.role != OWNER:
        raise RoleRequired(OWNER)
    missing = expand(scope for role in roles for scope in scopes_of(role)) - expand(actor.scopes)
    if missing:
        raise ScopesExceeded(sorted(missing))


def _another_owner(tenant: Tenant, member: Membership) -> None:
    owners = Membership.objects.filter(tenant=tenant, role=OWNER).exclude(pk=member.pk)
    if not owners.exists():
        raise LastOwner()


def _tell(actor: Actor, tenant: Tenant, action: str, username: str, role: str) -> None:
    record(
        actor=actor.name,
        action=action,
        object=f"user:{username}",
        tenant_id=tenant.pk,
        reason=actor.reason,
        data={"role": role} if role else {},
    )
