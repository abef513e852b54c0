"""A task's place in line: entering ``ready``, leaving it, and the counters of the backlog."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from django.db import connection, transaction
from django.db.models.functions import Now

from rest.statements import outermost
from tasks.announce import announce_on_commit
from tasks.errors import Moved
from tasks.models import Backlog, Parked, Ready, Task, TaskType
from tasks.services.keys import hold_key
from tasks.services.transitions import caused, move
from tasks.states import Queue, Status
from tasks.wakeup import wake_on_commit

Growth = Counter[tuple[int, str]]
"""By how much the lines of (tenant, queue) have grown."""

_growth: ContextVar[Growth | None] = ContextVar("line_growth", default=None)


@contextmanager
def one_change() -> Iterator[bool]:
    """Make everything inside one transaction that touches the counters of the backlog last.

    Gives whether the transaction ends with this block: then who knows that nothing else will happen in
    it may send its COMMIT along (:func:`rest.statements.ask`), and Django finds it done.

    A change that passes through a graph moves many tasks in and out of line. If each raised its
    counter at once, the next task would be locked while a counter is held, and two such changes could
    wait for each other for ever. Inside another change this does nothing: the outermost one counts.
    """
    if _growth.get() is not None:
        yield False
        return
    with transaction.atomic():
        token = _growth.set(Counter())
        try:
            yield outermost()
            count_now()
        finally:
            _growth.reset(token)


def count_now(also: Iterable[tuple[int, str]] = ()) -> None:
    """Bring the counters up to what has changed so far, for who must compare them with a limit.

    ``also``: the lanes (tenant, queue) that will be counted next; if anything is locked now, they are.
    """
    growth = _growth.get()
    if growth:
        add_to_backlog(growth, also)
        growth.clear()


def grow(task: Task, by: int) -> None:
    """Note that the task's line has grown; only inside :func:`one_change`."""
    growth = _growth.get()
    assert growth is not None, "a line changes only inside one_change"  # noqa: S101
    growth[(task.tenant_id, task.queue)] += by


def enter_line(
    task: Task,
    *,
    reason: str | None = None,
    run: int | None = None,
    facts: Mapping[str, Any] | None = None,
    **columns: Any,
) -> None:
    """Move a locked task to ``queued`` and put it in its lane for its next attempt.

    The arguments are those of :func:`tasks.services.transitions.move`.
    """
    move(
        task,
        Status.QUEUED,
        reason=reason,
        run=run,
        facts=facts,
        queued_at=Now(),
        next_retry_at=None,
        **columns,
    )
    join_line(task)


# As `move` and `join_line` do it for one, with the event of each and its next number.
ENTER_MANY = """
WITH moved AS (
  UPDATE task t
     SET status = 'queued', status_reason = NULL, last_seq = t.last_seq + 1,
         queued_at = statement_timestamp(), next_retry_at = NULL
    FROM unnest(%(ids)s::uuid[], %(before)s::text[], %(seqs)s::bigint[]) AS entering(id, before, seq)
   WHERE t.id = entering.id AND t.status = entering.before AND t.last_seq = entering.seq
  RETURNING t.id, t.tenant_id, t.queue, t.priority, t.ordinal, t.epoch, t.type, t.type_version,
            t.preemptible, t.last_seq, entering.before
), told AS (
  INSERT INTO event (task_id, seq, tenant_id, at, kind, data)
  SELECT id, last_seq, tenant_id, statement_timestamp(), 'state',
         jsonb_build_object('status', 'queued', 'from', before, 'reason', NULL) || %(caused)s::jsonb
    FROM moved
), lined AS (
  INSERT INTO ready (task_id, queue, tenant_id, rank, ordinal, epoch, type_id, type_version,
                     preemptible)
  SELECT m.id, m.queue, m.tenant_id, -m.priority, m.ordinal, m.epoch + 1, ty.id, m.type_version,
         m.preemptible
    FROM moved m JOIN task_type ty ON ty.name = m.type
  RETURNING task_id
)
SELECT (SELECT count(*) FROM moved), (SELECT count(*) FROM lined)
"""


def enter_many(tasks: Sequence[Task]) -> None:
    """Move many locked tasks to ``queued`` and into their lanes, as :func:`enter_line` would each.

    One statement for all that have no key; who has one may have to wait beside its lane, so they go one
    by one, in the order given.

    Raises:
        Moved: a row is not as its task shows it.
    """
    keyless = [task for task in tasks if task.key is None]
    if keyless:
        values: dict[str, Any] = {
            "ids": [task.pk for task in keyless],
            "before": [task.status for task in keyless],
            "seqs": [task.last_seq for task in keyless],
            "caused": json.dumps(caused({})),
        }
        with connection.cursor() as cursor:
            cursor.execute(ENTER_MANY, values)
            moved, lined = cursor.fetchone()
        if moved != len(keyless):
            raise Moved
        if lined != len(keyless):
            raise TaskType.DoesNotExist
    for task in keyless:
        task.status, task.status_reason, task.last_seq = Status.QUEUED, None, task.last_seq + 1
        announce_on_commit(task.pk, task.tenant_id, task.last_seq)
        grow(task, 1)
    for queue, tenant_id in {(task.queue, task.tenant_id) for task in keyless}:
        wake_on_commit(queue, tenant_id)
    for task in tasks:
        if task.key is not None:
            enter_line(task)


def join_line(task: Task) -> None:
    """Put a task that has just become queued in its lane for its next attempt, and count it."""
    type_id = TaskType.objects.values_list("pk", flat=True).get(name=task.type)
    line_up(task, type_id=type_id, epoch=task.epoch + 1)
    grow(task, 1)


def line_up(task: Task, *, type_id: int, epoch: int) -> None:
    """Put a queued task in its lane, or beside it while its key is taken.

    ``epoch`` is that of its next attempt.
    """
    row: dict[str, Any] = {
        "task_id": task.pk,
        "queue": task.queue,
        "tenant_id": task.tenant_id,
        "rank": -task.priority,
        "ordinal": task.ordinal,
        "epoch": epoch,
        "type_id": type_id,
        "type_version": task.type_version,
        "preemptible": task.preemptible,
    }
    if task.key is None or hold_key(task.pk, task.tenant_id, task.key):
        Ready.objects.create(**row)
    else:
        Parked.objects.create(**row, reason="key", key=task.key)
    wake_on_commit(task.queue, task.tenant_id)


def leave_line(task: Task) -> bool:
    """Take a task out of ``ready`` or ``parked``; return whether it was there."""
    gone = 0
    # The dispatcher may be moving it between the two. Whoever waits for such a move to commit finds
    # the row gone, and must look again where it went.
    for place in (Ready, Parked, Ready):
        gone, _ = place.objects.filter(pk=task.pk).delete()
        if gone:
            break
    if gone:
        grow(task, -1)
    return bool(gone)


def add_to_backlog(changes: Mapping[tuple[int, str], int], also: Iterable[tuple[int, str]] = ()) -> None:
    """Add to the counters of lanes, and of their tenants, that have one; others are not counted.

    ``also``: lanes whose counters are only locked, with the others in their order.
    Rows are locked in one order, and last in the transaction, so no two callers can block each
    other for ever and nobody waits long.
    """
    totals = {key: count for key, count in changes.items() if count}
    for (tenant_id, _queue), count in changes.items():
        totals[(tenant_id, "")] = totals.get((tenant_id, ""), 0) + count
    if not totals:
        return
    for tenant_id, queue in also:
        totals.setdefault((tenant_id, ""), 0)
        totals.setdefault((tenant_id, queue), 0)
    tenants = [key[0] for key in totals]
    queues = [key[1] for key in totals]
    with connection.cursor() as cursor:
        cursor.execute(
            """
            WITH locked AS (
              SELECT b.id, d.n
                FROM backlog b
                JOIN unnest(%s::bigint[], %s::text[], %s::int[]) AS d(tenant_id, queue, n)
                  ON b.tenant_id = d.tenant_id AND b.queue = d.queue
               ORDER BY b.tenant_id, b.queue
                 FOR UPDATE OF b
            )
            UPDATE backlog b SET queued = greatest(0, b.queued + locked.n)
              FROM locked WHERE b.id = locked.id
            """,
            [tenants, queues, list(totals.values())],
        )


def recount_backlog(keys: Iterable[tuple[int, str]]) -> None:
    """Set counters from the rows they count; exact even while others submit and dispatch.

    Whoever changes ``ready`` does so before it locks the counter. So with the lock held, a change
    that is not visible yet will still be added by its own transaction. Lock and count are two
    statements, because one statement would count with a snapshot from before the lock.

    That holds for who could see the counter. A transaction that looked for it before it was there adds
    nothing: hence ``settled``, see :mod:`tasks.services.recount`.
    """
    for tenant_id, queue in keys:
        Backlog.objects.get_or_create(tenant_id=tenant_id, queue=queue)
        row = Backlog.objects.select_for_update().get(tenant_id=tenant_id, queue=queue)
        # Named queues: the index of lanes begins with them.
        lane = {"tenant_id": tenant_id, "queue__in": [queue] if queue else list(Queue)}
        row.queued = Ready.objects.filter(**lane).count() + Parked.objects.filter(**lane).count()
        row.save(update_fields=["queued"])
