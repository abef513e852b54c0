"""Giving an ended task a new life: counts start again, old runs stay."""

from __future__ import annotations

import heapq
import uuid
from typing import Any

from django.db import transaction

from rest.ties import again_on_ties
from tasks.errors import InputsLost, NotRetryable
from tasks.models import Task
from tasks.selectors.files import missing_inputs
from tasks.services.keys import check_key, take_key
from tasks.services.release import enter_line
from tasks.services.transitions import lock_task, move
from tasks.states import Reason, Status

RETRYABLE = (Status.FAILED, Status.DROPPED, Status.CANCELLED)
BECAUSE_OF_A_PARENT = (Reason.PARENT_FAILED, Reason.PARENT_CANCELLED, Reason.PARENT_DROPPED)


@again_on_ties
def retry(task_id: uuid.UUID, *, by: str, reason: str = "") -> Task:
    """Start a new life of a task that ended without success.

    Descendants that were cancelled only because of it go back to ``blocked``; those that a user
    cancelled, or that completed, stay as they are. The checkpoint is kept, for the next attempt to go
    on from.

    Raises:
        NotRetryable: the task has not ended, or completed.
        InputsLost: it ended before its inputs were complete, so there is nothing to run with.
        KeyConflict: another task has taken its key in the meantime.
    """
    with transaction.atomic():
        task = lock_task(task_id)
        if task.status not in RETRYABLE:
            raise NotRetryable(task.status)
        if task.key is not None:
            take_key(task.tenant_id, task.key)
            check_key(task.tenant_id, task.key, task.key_policy)
        if missing_inputs(task):
            raise InputsLost
        facts = {"by": by, "note": reason}
        if _waits_for_parents(task):
            move(task, Status.BLOCKED, reason=Reason.RETRIED, facts=facts, **_fresh(task))
        else:
            enter_line(task, reason=Reason.RETRIED, facts=facts, **_fresh(task))
        _revive_children(task, by)
    task.refresh_from_db()
    return task


def _fresh(task: Task) -> dict[str, Any]:
    return {
        "life": task.life + 1,
        "failures": 0,
        "losses": 0,
        "crashes": 0,
        "restarts": 0,
        "preemptions": 0,
        "started_at": None,
        "result_expired": False,
        "cancel_requested_at": None,
        "cancel_requested_by": "",
        "cancel_reason": "",
        "result": None,
        "error": None,
        "consumed_at": None,
        "progress_percent": 0,
        "progress_step": "",
        "deadline_at": None,
    }


def _waits_for_parents(task: Task) -> bool:
    if task.on_parent_failure == "run":
        return task.dependencies.filter(parent__finished_at__isnull=True).exists()
    return task.dependencies.exclude(parent__status=Status.COMPLETED.value).exists()


def _revive_children(parent: Task, by: str) -> None:
    """Bring back, in order of submission, who was cancelled only because of a parent."""
    reached = list(parent.dependents.values_list("child__ordinal", "child_id"))
    heapq.heapify(reached)
    seen: set[uuid.UUID] = set()
    while reached:
        _, child_id = heapq.heappop(reached)
        if child_id in seen:
            continue
        seen.add(child_id)
        child = lock_task(child_id)
        if child.status != Status.CANCELLED or child.status_reason not in BECAUSE_OF_A_PARENT:
            continue
        if _another_parent_ended_badly(child) or missing_inputs(child):
            continue
        move(child, Status.BLOCKED, reason=Reason.RETRIED, facts={"by": by}, **_fresh(child))
        for pair in child.dependents.values_list("child__ordinal", "child_id"):
            heapq.heappush(reached, pair)


def _another_parent_ended_badly(child: Task) -> bool:
    return (
        child.dependencies.filter(parent__finished_at__isnull=False)
        .exclude(parent__status=Status.COMPLETED.value)
        .exists()
    )
