"""A late attempt wrote: the fence refused it, and here it is written down."""

from __future__ import annotations

import uuid

from django.db import transaction

from tasks.models import Inflight, Run
from tasks.services.transitions import lock_task, note


def late_write_refused(task_id: uuid.UUID, epoch: int, *, what: str) -> bool:
    """Record that the attempt of ``epoch`` tried to write ``what`` after it had lost its lease.

    The event (kind ``error``) names the run and its epoch. False, and no event, if that attempt is
    still the live one.
    """
    with transaction.atomic():
        task = lock_task(task_id)
        if Inflight.objects.filter(pk=task_id, epoch=epoch, state="running").exists():
            return False
        late = Run.objects.filter(task=task, epoch=epoch).first()
        message = f"A late write ({what}) of an attempt that had lost its lease was refused."
        note(
            task,
            "error",
            {"code": "late_write_refused", "message": message, "refused": what, "epoch": epoch},
            run=late.attempt if late else None,
        )
    return True
