"""A task's place in line: entering ``ready``, leaving it, and the counters of the backlog."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from django.db import connection

from tasks.models import Backlog, Parked, Ready, Task, TaskType
from tasks.wakeup import wake_on_commit


def make_ready(task: Task, *, type_id: int, epoch: int) -> None:
    """Put a queued task in its lane; ``epoch`` is that of its next attempt."""
    Ready.objects.create(
        task_id=task.pk,
        queue=task.queue,
        tenant_id=task.tenant_id,
        rank=-task.priority,
        ordinal=task.ordinal,
        epoch=epoch,
        type_id=type_id,
        preemptible=task.preemptible,
    )
    wake_on_commit(task.queue, task.tenant_id)


def join_line(task: Task) -> None:
    """Put a task that has just become ``queued`` again in its lane, for its next attempt."""
    type_id = TaskType.objects.values_list("pk", flat=True).get(name=task.type)
    make_ready(task, type_id=type_id, epoch=task.epoch + 1)
    add_to_backlog({(task.tenant_id, task.queue): 1})


def leave_line(task: Task) -> bool:
    """Take a task out of ``ready`` or ``parked``; return whether it was there."""
    gone, _ = Ready.objects.filter(pk=task.pk).delete()
    if not gone:
        gone, _ = Parked.objects.filter(pk=task.pk).delete()
    if gone:
        add_to_backlog({(task.tenant_id, task.queue): -1})
    return bool(gone)


def add_to_backlog(changes: Mapping[tuple[int, str], int]) -> None:
    """Add to the counters of lanes, and of their tenants, that have one; others are not counted.

    Rows are locked in one order, and last in the transaction, so no two callers can block each
    other for ever and nobody waits long.
    """
    totals = {key: count for key, count in changes.items() if count}
    for (tenant_id, _queue), count in changes.items():
        totals[(tenant_id, "")] = totals.get((tenant_id, ""), 0) + count
    if not totals:
        return
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
    """
    for tenant_id, queue in keys:
        Backlog.objects.get_or_create(tenant_id=tenant_id, queue=queue)
        row = Backlog.objects.select_for_update().get(tenant_id=tenant_id, queue=queue)
        lane = {"tenant_id": tenant_id, **({"queue": queue} if queue else {})}
        row.queued = Ready.objects.filter(**lane).count() + Parked.objects.filter(**lane).count()
        row.save(update_fields=["queued"])
