"""A run has ended: its row, its task's next status, its slot and its children, in one transaction."""

from __future__ import annotations

import json
import uuid
from typing import Any

from django.db import connection

from rest.statements import BEGIN, COMMIT, Statement, ask, in_questions
from rest.ties import again_on_ties
from tasks.announce import announce, announce_on_commit
from tasks.errors import Fenced
from tasks.models import Run, Task
from tasks.outcomes import MESSAGE_LIMIT, Decision, Outcome, TaskFacts, decide
from tasks.services.append import storable_json, storable_text
from tasks.services.graph import release_children
from tasks.services.ready import join_line, one_change
from tasks.services.refuse import late_write_refused
from tasks.states import TERMINAL, RunStatus, Status
from tasks.wakeup import ENDED, KEY_FREED, wake_on_commit, wake_up

# Three statements in two questions, because every run pays for them: the ORM's eight cost 9 ms of its
# supervisor's time. What is asked after the lock must see what others committed before it was granted:
# a child that was added a moment ago would wait for ever otherwise.
LOCK = Statement("""
SELECT row_to_json(answer) FROM (
SELECT t.status, t.attempt, t.last_seq, t.queue, t.tenant_id,
       t.cancel_requested_at IS NOT NULL AS cancel_requested, t.cancel_why, t.idempotent,
       t.key IS NOT NULL AS has_key,
       t.max_retries, t.retry,
       t.failures, t.losses, t.crashes, coalesce(ty.on_loss, 'retry') AS on_loss,
       coalesce(ty.on_shutdown, 'requeue') AS on_shutdown
  FROM task t LEFT JOIN task_type ty ON ty.name = t.type
 WHERE t.id = %(task)s AND t.epoch = %(epoch)s
   FOR UPDATE OF t
) answer
""")
CHILDREN = Statement("SELECT to_json(EXISTS (SELECT 1 FROM dependency WHERE parent_id = %(task)s))")

# The row of `inflight` is the fence: without it nothing below happens. No end lies before its start,
# also where the database's clock was set back in between.
END = Statement("""
WITH freed AS (
  DELETE FROM inflight WHERE task_id = %(task)s AND epoch = %(epoch)s AND state = 'running'
  RETURNING task_id
), moved AS (
  UPDATE task t
     SET status = %(status)s, status_reason = %(reason)s, error = %(error)s, last_seq = t.last_seq + 1,
         result = CASE WHEN %(completed)s THEN %(result)s::jsonb ELSE t.result END,
         progress_percent = CASE WHEN %(completed)s THEN 100 ELSE t.progress_percent END,
         failures = t.failures + %(failures)s, losses = t.losses + %(losses)s,
         crashes = t.crashes + %(crashes)s, restarts = t.restarts + %(restarts)s,
         preemptions = t.preemptions + %(preemptions)s,
         finished_at = CASE WHEN %(terminal)s THEN greatest(t.started_at, statement_timestamp()) END,
         queued_at = CASE WHEN %(queued)s THEN statement_timestamp() ELSE t.queued_at END,
         next_retry_at = statement_timestamp() + make_interval(secs => %(delay)s::float8)
    FROM freed
   WHERE t.id = freed.task_id AND t.status = 'running' AND t.epoch = %(epoch)s
  RETURNING t.id, t.tenant_id, t.attempt, t.last_seq, t.progress_percent, t.progress_step,
            t.next_retry_at
), ended AS (
  UPDATE run r
     SET status = %(run_status)s, finished_at = greatest(r.started_at, statement_timestamp()),
         error = %(error)s, result = %(result)s, progress_percent = moved.progress_percent,
         progress_step = moved.progress_step, exit_code = %(exit_code)s, signal = %(signal)s,
         cpu_seconds = %(cpu_seconds)s, max_rss_bytes = %(max_rss_bytes)s,
         wall_seconds = %(wall_seconds)s, log_bytes = %(log_bytes)s, log_lines = %(log_lines)s,
         log_truncated = %(log_truncated)s
    FROM moved
   WHERE r.task_id = moved.id AND r.epoch = %(epoch)s AND r.status = 'running'
), event AS (
  INSERT INTO event (task_id, seq, tenant_id, at, kind, run, data)
  SELECT id, last_seq, tenant_id, statement_timestamp(), 'state', attempt,
         CASE WHEN next_retry_at IS NULL THEN %(facts)s::jsonb
              ELSE %(facts)s::jsonb || jsonb_build_object('next_retry_at', next_retry_at) END
    FROM moved
), reminded AS (
  INSERT INTO later (task_id, due_at, what)
  SELECT id, next_retry_at, 'retry' FROM moved WHERE next_retry_at IS NOT NULL
), forgotten AS (
  DELETE FROM later USING moved WHERE later.task_id = moved.id AND %(terminal)s
)
SELECT to_json(last_seq) FROM moved
""")

COUNTERS = ("failures", "losses", "crashes", "restarts", "preemptions")
MEASURED = (
    "exit_code",
    "signal",
    "cpu_seconds",
    "max_rss_bytes",
    "wall_seconds",
    "log_bytes",
    "log_lines",
    "log_truncated",
)


@again_on_ties
def finish(task_id: uuid.UUID, epoch: int, outcome: Outcome) -> Status:
    """End the run of ``epoch`` and return its task's new status.

    Raises:
        Fenced: the attempt is not the newest one any more; the refusal is recorded as an event.
    """
    try:
        if not connection.in_atomic_block:
            status = finish_alone(task_id, epoch, outcome)
            if status is not None:
                return status
        with one_change():
            return finish_here(task_id, epoch, outcome)
    except Fenced:
        if not _is_repetition(task_id, epoch, outcome):
            late_write_refused(task_id, epoch, what=f"its end, {outcome.status}")
        raise


def _is_repetition(task_id: uuid.UUID, epoch: int, outcome: Outcome) -> bool:
    """Whether this very end is written already: its commit's answer was lost, and it was sent again."""
    ended = Run.objects.filter(task_id=task_id, epoch=epoch, status=outcome.status.value)
    return bool(ended.exclude(status=RunStatus.LOST.value).exists())


def finish_alone(task_id: uuid.UUID, epoch: int, outcome: Outcome) -> Status | None:
    """End the run in a transaction of its own, in two questions; None if more follows from its end.

    Nothing is done then: :func:`finish_here` does it, in one of Django's.

    Raises:
        Fenced: the attempt is not the newest one any more.
    """
    key = {"task": task_id, "epoch": epoch}
    with in_questions():
        _, *found = ask(BEGIN, LOCK.of(key), CHILDREN.of(key))
        row, decision, follows = _decided(outcome, *found)
        if follows:
            return None
        end = END.of(_values(task_id, epoch, outcome, decision))
        seq, *_ = ask(end, COMMIT, wake_up(KEY_FREED if row["has_key"] else ENDED))
    if seq is None:
        raise Fenced
    announce(task_id, row["tenant_id"], seq)
    return decision.status


def finish_here(task_id: uuid.UUID, epoch: int, outcome: Outcome) -> Status:
    """End the run in the transaction that is open, and do what follows from it.

    Raises:
        Fenced: the attempt is not the newest one any more.
    """
    key = {"task": task_id, "epoch": epoch}
    row, decision, follows = _decided(outcome, *ask(LOCK.of(key), CHILDREN.of(key)))
    (seq,) = ask(END.of(_values(task_id, epoch, outcome, decision)))
    if seq is None:
        raise Fenced
    wake_on_commit(row["queue"], row["tenant_id"])
    announce_on_commit(task_id, row["tenant_id"], seq)
    if decision.status is Status.QUEUED:
        join_line(Task.objects.get(pk=task_id))
    elif follows:
        release_children(Task.objects.only("status").get(pk=task_id))
    return decision.status


def _decided(
    outcome: Outcome, row: dict[str, Any] | None, has_children: bool
) -> tuple[dict[str, Any], Decision, bool]:
    """Return the task's row, what becomes of it, and whether other rows change with it.

    Raises:
        Fenced: the attempt is not the newest one any more.
    """
    if row is None or row["status"] != Status.RUNNING:
        raise Fenced
    decision = decide(outcome, TaskFacts(**{name: row[name] for name in TaskFacts.__slots__}))
    follows = decision.status is Status.QUEUED or (decision.status in TERMINAL and has_children)
    return row, decision, follows


def _values(task_id: uuid.UUID, epoch: int, outcome: Outcome, decision: Decision) -> dict[str, object]:
    """Return what :data:`END` writes."""
    error = _stored_error(outcome.error)
    reason = str(decision.reason) if decision.reason else None
    facts: dict[str, object] = {
        "status": decision.status.value,
        "from": Status.RUNNING.value,
        "reason": reason,
        "run": outcome.status.value,
        "error": error,
        "counts": list(decision.counts),
    }
    if decision.status is Status.DROPPED:
        facts["started"] = True
    return {
        "task": task_id,
        "epoch": epoch,
        "status": decision.status.value,
        "reason": reason,
        "completed": decision.status is Status.COMPLETED,
        "terminal": decision.status in TERMINAL,
        "queued": decision.status is Status.QUEUED,
        "delay": decision.delay if decision.status is Status.RETRY_WAIT else None,
        "error": None if error is None else json.dumps(error),
        "result": None if outcome.result is None else storable_json(outcome.result),
        "facts": json.dumps(facts),
        "run_status": outcome.status.value,
        **{name: int(name in decision.counts) for name in COUNTERS},
        **{name: getattr(outcome, name) for name in MEASURED},
    }


def _stored_error(error: dict[str, Any] | None) -> dict[str, Any] | None:
    if error is None:
        return None
    kept: dict[str, Any] = json.loads(storable_json(error))
    kept["message"] = storable_text(str(kept.get("message", "")))[:MESSAGE_LIMIT]
    return kept
