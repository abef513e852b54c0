"""Stopping and resuming the intake of tasks; reads, and tasks that were accepted, go on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.db import connection, transaction

from audit.services import record
from rest.times import rfc3339
from tasks.models import Maintenance
from tenants.actor import Actor


def maintenance_set(
    *,
    actor: Actor,
    enabled: bool,
    reason: str = "",
    check: Callable[[str], None] = lambda version: None,
) -> Maintenance | None:
    """Stop or resume the intake and return what holds now; audited when it changes.

    Who stopped it first stays on record. ``check`` sees the version before, under the lock.
    """
    with transaction.atomic():
        with connection.cursor() as cursor:
            # There may be no row to lock. Whoever only reads it, as each submission does, goes on.
            cursor.execute("LOCK TABLE maintenance IN SHARE ROW EXCLUSIVE MODE")
        row = maintenance_get()
        check(maintenance_version(row))
        if enabled == (row is not None):
            return row
        if row is not None:
            row.delete()
            row = None
        else:
            row = Maintenance.objects.create(id=1, by=actor.name, reason=reason)
            row.refresh_from_db(fields=["since"])
        record(
            actor=actor.name,
            action="maintenance.on" if enabled else "maintenance.off",
            object="platform:intake",
            reason=reason or actor.reason,
        )
    return row


def maintenance_get() -> Maintenance | None:
    """Return the row that stops the intake, None while tasks are taken."""
    return Maintenance.objects.first()


def maintenance_version(row: Maintenance | None) -> str:
    """Return what tells one stop from another; all times without one are the same."""
    return "none" if row is None else str(row.since.timestamp())


def maintenance_json(row: Maintenance | None) -> dict[str, Any]:
    """Return ``{"enabled", "since", "by", "reason"}``; a setting that stops the intake has no author."""
    return {
        "enabled": row is not None or settings.SWITCHYARD.maintenance,
        "since": rfc3339(row.since) if row else None,
        "by": row.by if row else None,
        "reason": (row.reason or None) if row else None,
    }
