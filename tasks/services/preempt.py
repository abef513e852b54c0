"""Asking a batch run to make room for critical work."""

from __future__ import annotations

import uuid

from rest.ties import again_on_ties
from tasks.models import Inflight, Task
from tasks.selectors.preemption import may_be_preempted
from tasks.services.ready import one_change
from tasks.services.transitions import lock_task, note


@again_on_ties
def preempt(task_id: uuid.UUID, *, epoch: int) -> bool:
    """Ask the handler of a batch run to stop; return whether it was asked.

    It gets the cancel grace to write a checkpoint and to end. What becomes of the task is decided at
    that end (:mod:`tasks.outcomes`): queued again, charged to neither retries nor failures, unless it
    has completed meanwhile. A request is never taken back, because the handler may have been told
    already, and never replaces one to cancel.
    """
    with one_change():
        task = lock_task(task_id)
        # Under the lock: it may have ended, been cancelled or lost since it was chosen.
        if not Task.objects.filter(may_be_preempted(), pk=task_id).exists():
            return False
        run = Inflight.objects.filter(pk=task_id, epoch=epoch, state="running", ask=None)
        if not run.update(ask="preempt"):
            return False
        note(task, "note", {"preempt_requested": True}, run=task.attempt)
    return True
