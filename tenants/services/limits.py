"""Change a tenant's limits; the dispatcher sees the rows' versions grow and reads them again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from django.db import transaction

from audit.services import record
from rest.errors import FieldError, ValidationFailed
from tenants.actor import Actor
from tenants.errors import OperatorRequired
from tenants.limits import WHOLE
from tenants.models import Limit, Tenant
from tenants.selectors import limits_for, limits_version
from tenants.windows import stored


def limits_put(
    *,
    actor: Actor,
    tenant: Tenant,
    limits: Mapping[str, Any],
    check: Callable[[int], None] = lambda version: None,
) -> dict[str, Any]:
    """Change what ``limits`` names and return all of them (:func:`tenants.selectors.limits_for`).

    What is left out stays; ``None`` is no limit. ``check`` sees the current version under the lock.

    Raises:
        OperatorRequired: limits protect the other tenants, so a tenant does not set its own.
        ValidationFailed: a queue's ``min_running`` is above its ``running``.
    """
    if not actor.operator:
        raise OperatorRequired()
    by_queue: dict[str, Mapping[str, Any]] = dict(limits.get("queues", {}))
    by_queue[WHOLE] = {name: value for name, value in limits.items() if name != "queues"}
    with transaction.atomic():
        Tenant.objects.select_for_update().get(pk=tenant.pk)
        check(limits_version(tenant))
        rows = {row.queue: row for row in Limit.objects.filter(tenant=tenant)}
        wrong = []
        for queue, changes in by_queue.items():
            if not changes:
                continue
            row = rows.get(queue) or Limit(tenant=tenant, queue=queue, version=0)
            for name, value in changes.items():
                setattr(row, name, stored(value) if name == "windows" else value)
            if None not in (row.min_running, row.running) and row.min_running > row.running:  # type: ignore[operator]
                wrong.append(
                    FieldError(
                        f"/queues/{queue}/min_running",
                        "above_maximum",
                        "The guaranteed minimum is above `running`.",
                    )
                )
                continue
            row.version += 1
            row.save()
        if wrong:
            raise ValidationFailed(errors=wrong)
        record(
            actor=actor.name,
            action="limits.change",
            object=f"tenant:{tenant.slug}",
            tenant_id=tenant.pk,
            reason=actor.reason,
            data=dict(limits),
        )
        return limits_for(tenant)
