"""Giving an ended task a new life: counts start again, old runs stay."""

from __future__ import annotations

import heapq
import uuid
from typing import Any

from rest.ties import again_on_ties
from tasks.clock import database_now
from tasks.errors import InputsLost, KeyConflict, NotRetryable, ParentsFirst
from tasks.models import Task
from tasks.parents import Prospect
from tasks.selectors.files import missing_inputs
from tasks.services.admission import check_lines
from tasks.services.graph import judgement_of
from tasks.services.keys import check_key, take_key
from tasks.services.later import queue_deadline, remember_due
from tasks.services.ready import enter_line, one_change
from tasks.services.transitions import lock_task, move
from tasks.states import Reason, Status

RETRYABLE = (Status.FAILED, Status.DROPPED, Status.CANCELLED)
BECAUSE_OF_A_PARENT = (Reason.PARENT_FAILED, Reason.PARENT_CANCELLED, Reason.PARENT_DROPPED)


@again_on_ties
def retry(task_id: uuid.UUID, *, by: str, reason: str = "") -> Task:
    """Start a new life of a task that ended without success, in a transaction of its own.

    Raises:
        NotRetryable, ParentsFirst, InputsLost, KeyConflict: see :func:`retry_task`.
        QueuedLimit: it would enter a line that is full.
    """
    with one_change():
        task = lock_task(task_id)
        retry_task(task, by=by, reason=reason)
        check_lines([task])
    task.refresh_from_db()
    return task


def retry_task(task: Task, *, by: str, reason: str = "") -> None:
    """Start a new life of a locked task; the caller checks that its line has room.

    Descendants that were cancelled only because of it go back to ``blocked`` (to ``scheduled`` before
    their own time); those that a user cancelled, or that completed, stay as they are. The checkpoint
    is kept, for the next attempt to go on from.

    Raises:
        NotRetryable: the task has not ended, or completed.
        ParentsFirst: one that it depends on has ended without success.
        InputsLost: it ended before its inputs were complete, so there is nothing to run with.
        KeyConflict: another task has taken its key in the meantime.
    """
    if task.status not in RETRYABLE:
        raise NotRetryable(task.status)
    judgement = judgement_of(task)
    if judgement.culprit is not None:
        raise ParentsFirst(str(judgement.culprit.id), judgement.culprit.status)
    _take_key_again(task)
    if missing_inputs(task):
        raise InputsLost
    facts = {"by": by, "note": reason}
    if judgement.prospect is Prospect.FREE:
        enter_line(task, reason=Reason.RETRIED, facts=facts, **_fresh(task))
    else:
        move(task, Status.BLOCKED, reason=Reason.RETRIED, facts=facts, **_fresh(task))
    remember_due(task)
    _revive_descendants(task, by)


def _take_key_again(task: Task) -> None:
    """Take the task's key; a retry never pushes another task aside, whatever the key's policy.

    Raises:
        KeyConflict
    """
    if task.key is not None:
        take_key(task.tenant_id, task.key)
        check_key(task.tenant_id, task.key, "queue" if task.key_policy == "queue" else "reject")


def _fresh(task: Task) -> dict[str, Any]:
    """Return the columns of a new life, and give ``task`` its new deadline."""
    task.deadline_at = queue_deadline(task.queue_timeout, task.scheduled_for)
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
        "cancel_why": "",
        "result": None,
        "error": None,
        "consumed_at": None,
        "progress_percent": 0,
        "progress_step": "",
        "deadline_at": task.deadline_at,
    }


def _revive_descendants(parent: Task, by: str) -> None:
    """Bring back, in order of submission, who was cancelled only because of a parent."""
    reached: list[tuple[int, uuid.UUID]] = []
    _push_children(parent, reached)
    seen: set[uuid.UUID] = set()
    while reached:
        _, child_id = heapq.heappop(reached)
        if child_id in seen:
            continue
        seen.add(child_id)
        child = lock_task(child_id)
        if _can_come_back(child):
            early = child.scheduled_for is not None and child.scheduled_for > database_now()
            status = Status.SCHEDULED if early else Status.BLOCKED
            move(child, status, reason=Reason.RETRIED, facts={"by": by}, **_fresh(child))
            remember_due(child)
            _push_children(child, reached)


def _push_children(parent: Task, reached: list[tuple[int, uuid.UUID]]) -> None:
    for pair in parent.dependents.values_list("child__ordinal", "child_id"):
        heapq.heappush(reached, pair)


def _can_come_back(child: Task) -> bool:
    """Whether only a parent was in a child's way, and none is any more."""
    if child.status != Status.CANCELLED or child.status_reason not in BECAUSE_OF_A_PARENT:
        return False
    if missing_inputs(child) or judgement_of(child).prospect is Prospect.DOOMED:
        return False
    try:
        _take_key_again(child)
    except KeyConflict:
        return False
    return True
