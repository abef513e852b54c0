"""Pausing a queue or a task type for all tenants: nothing of it is dispatched, runs go on."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from audit.services import record
from rest.errors import NotFound
from rest.times import rfc3339
from tasks.models import Pause, TaskType
from tasks.states import Queue
from tasks.wakeup import wake_on_commit
from tenants.actor import Actor


def pause_set(*, actor: Actor, subject: str, name: str, paused: bool, reason: str = "") -> bool:
    """Pause or resume and return whether that changed anything; who paused first stays on record.

    ``subject`` is ``queue`` or ``type``. Audited when it changes.

    Raises:
        NotFound: there is no queue or task type of this name.
    """
    if not _exists(subject, name):
        raise NotFound()
    with transaction.atomic():
        if paused:
            _, changed = Pause.objects.get_or_create(
                subject=subject, name=name, defaults={"by": actor.name, "reason": reason}
            )
        else:
            gone, _ = Pause.objects.filter(subject=subject, name=name).delete()
            changed = bool(gone)
        if changed:
            record(
                actor=actor.name,
                action=f"{subject}.{'pause' if paused else 'resume'}",
                object=f"{subject}:{name}",
                reason=reason or actor.reason,
            )
            wake_on_commit("*", 0)
    return changed


def pause_json(pause: Pause) -> dict[str, Any]:
    """Return which queue or task type is paused, since when, by whom and why."""
    return {
        "subject": pause.subject,
        "name": pause.name,
        "since": rfc3339(pause.since),
        "by": pause.by,
        "reason": pause.reason or None,
    }


def _exists(subject: str, name: str) -> bool:
    if subject == "queue":
        return name in list(Queue)
    return bool(TaskType.objects.filter(name=name).exists())
