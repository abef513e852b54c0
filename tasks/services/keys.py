"""Keys: at most one active task of a tenant has a key, unless its policy lets it queue."""

from __future__ import annotations

from django.db import connection

from tasks.errors import KeyConflict
from tasks.models import Task


def take_key(tenant_id: int, key: str) -> None:
    """Keep everybody else from taking the key until this transaction ends."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, %s))", [key, tenant_id])


def holder_of(tenant_id: int, key: str) -> Task | None:
    """Return the oldest active task that has the key.

    After :func:`take_key` it is a statement of its own, so it sees what the former taker committed.
    """
    active = Task.objects.filter(tenant_id=tenant_id, key=key, finished_at__isnull=True)
    return active.order_by("ordinal").first()


def check_key(tenant_id: int, key: str | None, policy: str) -> None:
    """Refuse a key that an active task has, where its policy is to reject.

    Raises:
        KeyConflict: names the task that has it.
    """
    if key is None or policy != "reject":
        return
    holder = holder_of(tenant_id, key)
    if holder is not None:
        raise KeyConflict(key, str(holder.pk))
