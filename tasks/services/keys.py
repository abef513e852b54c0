"""Keys: so many unended tasks of a tenant may run with the same key, by default one.

A task *has* its key from when it may enter its lane until it has ended, retries included: a row of
``key_holder``, whose unique slots decide between any two that want the key at once. A task of policy
``queue`` or ``replace`` whose key is taken is parked meanwhile; the dispatcher lets the next one in.
"""

from __future__ import annotations

import uuid

from django.db import connection

from tasks.errors import KeyConflict
from tasks.models import KeyHolder, Task
from tenants.models import Limit

SLOTS = (
    "coalesce((SELECT running_per_key FROM tenants_limit WHERE tenant_id = {tenant} AND queue = ''), 1)"
)
"""SQL: how many tasks of a tenant may have one key at once."""

# Nobody goes before those who wait already: the dispatcher lets them in, in order.
HOLD = f"""
INSERT INTO key_holder (task_id, tenant_id, key, slot)
SELECT %(task)s, %(tenant)s, %(key)s, slot
  FROM generate_series(0, {SLOTS.format(tenant="%(tenant)s")} - 1) AS slot
 WHERE NOT EXISTS (SELECT 1 FROM key_holder h
                    WHERE h.tenant_id = %(tenant)s AND h.key = %(key)s AND h.slot = slot.slot)
   AND NOT EXISTS (SELECT 1 FROM parked p WHERE p.tenant_id = %(tenant)s AND p.key = %(key)s)
 ORDER BY slot LIMIT 1
ON CONFLICT DO NOTHING
"""  # noqa: S608 - our own text


def take_key(tenant_id: int, key: str) -> None:
    """Keep everybody else from submitting with the key until this transaction ends."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, %s))", [key, tenant_id])


def active_with(tenant_id: int, key: str) -> list[Task]:
    """Return the tasks with this key that have not ended, the oldest first.

    After :func:`take_key` it is a statement of its own, so it sees what the former taker committed.
    """
    active = Task.objects.filter(tenant_id=tenant_id, key=key, finished_at__isnull=True)
    return list(active.only("pk", "ordinal", "status", "cancel_requested_at").order_by("ordinal"))


def check_key(tenant_id: int, key: str | None, policy: str) -> None:
    """Refuse a key that as many unended tasks have as may, where its policy is to reject.

    Raises:
        KeyConflict: names the oldest task that has it.
    """
    if key is None or policy != "reject":
        return
    active = active_with(tenant_id, key)
    if active and len(active) >= slots_of(tenant_id):
        raise KeyConflict(key, str(active[0].pk))


def hold_key(task_id: uuid.UUID, tenant_id: int, key: str) -> bool:
    """Let a task have its key if a slot is free and nobody waits for it; return whether it has it."""
    with connection.cursor() as cursor:
        cursor.execute(HOLD, {"task": task_id, "tenant": tenant_id, "key": key})
        if cursor.rowcount:
            return True
    return bool(KeyHolder.objects.filter(pk=task_id).exists())


def slots_of(tenant_id: int) -> int:
    """Return how many tasks of a tenant may have one key at once."""
    allowed = Limit.objects.filter(tenant_id=tenant_id, queue="").values_list(
        "running_per_key", flat=True
    )
    return next((count for count in allowed if count is not None), 1)
