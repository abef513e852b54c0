"""A run has ended: its row, its task's next status, its slot and its children, in one transaction."""

from __future__ import annotations

import json
import uuid
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now

from tasks.clock import database_now
from tasks.errors import Fenced
from tasks.models import Inflight, Later, Run, Task, TaskType
from tasks.outcomes import MESSAGE_LIMIT, Decision, Outcome, TaskFacts, decide
from tasks.services.append import storable_json, storable_text
from tasks.services.release import enter_line, release_children
from tasks.services.transitions import lock_task, move, note
from tasks.states import TERMINAL, RunStatus, Status
from tasks.wakeup import wake_on_commit


def finish(task_id: uuid.UUID, epoch: int, outcome: Outcome) -> Status:
    """End the run of ``epoch`` and return its task's new status.

    Raises:
        Fenced: the attempt is not the newest one any more; the refusal is recorded as an event.
    """
    try:
        with transaction.atomic():
            return _finish(task_id, epoch, outcome)
    except Fenced:
        record_refusal(task_id, epoch, outcome)
        raise


def record_refusal(task_id: uuid.UUID, epoch: int, outcome: Outcome) -> None:
    """Write down that a late attempt tried to end somebody else's run."""
    with transaction.atomic():
        task = lock_task(task_id)
        late = Run.objects.filter(task=task, epoch=epoch).first()
        note(
            task,
            "error",
            {"refused": f"late end ({outcome.status}) of an attempt that had lost its lease"},
            run=late.attempt if late else None,
        )


def _finish(task_id: uuid.UUID, epoch: int, outcome: Outcome) -> Status:
    task = lock_task(task_id)
    freed, _ = Inflight.objects.filter(pk=task_id, epoch=epoch, state="running").delete()
    if not freed or task.status != Status.RUNNING or task.epoch != epoch:
        raise Fenced
    error = _stored_error(outcome.error)
    decision = decide(outcome, _facts(task, outcome))
    _end_run(task, outcome, error)
    _apply(task, decision, outcome, error)
    wake_on_commit(task.queue, task.tenant_id)
    return decision.status


def _facts(task: Task, outcome: Outcome) -> TaskFacts:
    policy = (
        TaskType.objects.filter(name=task.type).values_list("on_loss", "on_shutdown").first()
        if outcome.status in (RunStatus.LOST, RunStatus.DROPPED)
        else None
    )
    on_loss, on_shutdown = policy or ("retry", "requeue")
    return TaskFacts(
        cancel_requested=task.cancel_requested_at is not None,
        idempotent=task.idempotent,
        max_retries=task.max_retries,
        retry=task.retry,
        failures=task.failures,
        losses=task.losses,
        crashes=task.crashes,
        on_loss=on_loss,
        on_shutdown=on_shutdown,
    )


def _end_run(task: Task, outcome: Outcome, error: dict[str, Any] | None) -> None:
    Run.objects.filter(task=task, epoch=task.epoch, status=RunStatus.RUNNING.value).update(
        status=outcome.status.value,
        finished_at=Now(),
        error=error,
        result=_stored_result(outcome.result),
        progress_percent=100 if outcome.status is RunStatus.COMPLETED else task.progress_percent,
        progress_step=task.progress_step,
        exit_code=outcome.exit_code,
        signal=outcome.signal,
        cpu_seconds=outcome.cpu_seconds,
        max_rss_bytes=outcome.max_rss_bytes,
        wall_seconds=outcome.wall_seconds,
        log_bytes=outcome.log_bytes,
        log_lines=outcome.log_lines,
        log_truncated=outcome.log_truncated,
    )


def _apply(task: Task, decision: Decision, outcome: Outcome, error: dict[str, Any] | None) -> None:
    columns: dict[str, Any] = {name: F(name) + 1 for name in decision.counts}
    columns["error"] = error
    facts: dict[str, Any] = {
        "run": outcome.status.value,
        "error": error,
        "counts": list(decision.counts),
    }
    if decision.status is Status.COMPLETED:
        columns.update(result=_stored_result(outcome.result), progress_percent=100)
    if decision.status is Status.RETRY_WAIT:
        due_at = database_now() + timedelta(seconds=decision.delay)
        columns["next_retry_at"] = due_at
        facts["next_retry_at"] = due_at.isoformat()
        Later.objects.create(task_id=task.pk, due_at=due_at, what="retry")
    if decision.status is Status.QUEUED:
        enter_line(task, reason=decision.reason, run=task.attempt, facts=facts, **columns)
    else:
        move(task, decision.status, reason=decision.reason, run=task.attempt, facts=facts, **columns)
    if decision.status in TERMINAL:
        Later.objects.filter(task_id=task.pk).delete()
        release_children(task)


def _stored_error(error: dict[str, Any] | None) -> dict[str, Any] | None:
    if error is None:
        return None
    kept: dict[str, Any] = json.loads(storable_json(error))
    kept["message"] = storable_text(str(kept.get("message", "")))[:MESSAGE_LIMIT]
    return kept


def _stored_result(result: Any) -> Any:
    return None if result is None else json.loads(storable_json(result))
