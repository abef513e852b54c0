"""Stopping and resuming the intake of tasks; reads, and tasks that were accepted, go on."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import transaction

from audit.services import record
from rest.times import rfc3339
from tasks.models import Maintenance
from tenants.actor import Actor


def maintenance_set(*, actor: Actor, enabled: bool, reason: str = "") -> None:
    """Stop or resume the intake; who stopped it first stays on record. Audited when it changes."""
    with transaction.atomic():
        if enabled:
            _, changed = Maintenance.objects.get_or_create(
                id=1, defaults={"by": actor.name, "reason": reason}
            )
        else:
            gone, _ = Maintenance.objects.all().delete()
            changed = bool(gone)
        if changed:
            record(
                actor=actor.name,
                action="maintenance.on" if enabled else "maintenance.off",
                object="platform:intake",
                reason=reason or actor.reason,
            )


def maintenance_state() -> dict[str, Any]:
    """Return ``{"enabled", "since", "by", "reason"}``; a setting that stops the intake has no author."""
    row = Maintenance.objects.first()
    return {
        "enabled": row is not None or settings.SWITCHYARD.maintenance,
        "since": rfc3339(row.since) if row else None,
        "by": row.by if row else None,
        "reason": (row.reason or None) if row else None,
    }
