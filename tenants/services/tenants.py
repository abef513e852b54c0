"""Make and change tenants."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db import IntegrityError, transaction

from audit.services import record
from rest.errors import NotFound
from rest.text import clean_slug, clean_text
from tenants.actor import Actor
from tenants.errors import SlugTaken
from tenants.models import Tenant

CHANGEABLE = ("name", "paused", "network_permitted")


def tenant_create(
    *,
    actor: Actor,
    slug: str,
    name: str = "",
    network_permitted: bool = False,
    is_first: bool = False,
) -> Tenant:
    """Make a tenant; ``is_first`` is for ``up`` alone, on a fresh database.

    Raises:
        SlugTaken: there is one, in whatever case it was written.
        TextRefused: the slug or the name has a form that is not allowed.
    """
    slug = clean_slug(slug)
    name = clean_text(name or slug, max_length=200)
    with transaction.atomic():
        try:
            with transaction.atomic():
                tenant = Tenant.objects.create(
                    slug=slug, name=name, network_permitted=network_permitted, is_first=is_first
                )
        except IntegrityError as error:
            if "tenant_one_first" in str(error):
                raise
            raise SlugTaken() from None
        record(
            actor=actor.name,
            action="tenant.create",
            object=f"tenant:{slug}",
            tenant_id=tenant.pk,
            reason=actor.reason,
            data={"name": name, "network_permitted": network_permitted},
        )
    tenant.refresh_from_db(fields=["created_at"])
    return tenant


def tenant_change(
    *,
    actor: Actor,
    slug: str,
    changes: dict[str, Any],
    reason: str = "",
    check: Callable[[Tenant], None] = lambda tenant: None,
) -> Tenant:
    """Change some of ``name``, ``paused``, ``network_permitted``.

    ``check`` sees the row while it is locked, before the change (for ``If-Match``).

    Raises:
        NotFound
    """
    with transaction.atomic():
        tenant = Tenant.objects.select_for_update().filter(slug=slug).first()
        if tenant is None:
            raise NotFound()
        check(tenant)
        changed = {
            name: changes[name]
            for name in CHANGEABLE
            if name in changes and changes[name] != getattr(tenant, name)
        }
        if not changed:
            return tenant
        for name, value in changed.items():
            setattr(tenant, name, value)
        tenant.version += 1
        tenant.save(update_fields=[*changed, "version"])
        record(
            actor=actor.name,
            action="tenant.change",
            object=f"tenant:{tenant.slug}",
            tenant_id=tenant.pk,
            reason=reason or actor.reason,
            data=changed,
        )
    return tenant
