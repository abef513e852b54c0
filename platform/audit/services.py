"""Write to the trail, in the transaction of the deed: neither exists without the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from audit.models import AuditEntry
from rest.request_id import current_request_id


def record(
    *,
    actor: str,
    action: str,
    object: str = "",
    tenant_id: int | None = None,
    reason: str = "",
    data: Mapping[str, Any] | None = None,
) -> AuditEntry:
    """Append one entry; call it inside the transaction that does the deed.

    ``action`` is a word of the form ``token.issue``. ``data`` is JSON and must hold no secret.
    """
    return AuditEntry.objects.create(
        actor=actor,
        action=action,
        object=object,
        tenant_id=tenant_id,
        request_id=current_request_id(),
        reason=reason,
        data=dict(data or {}),
    )
