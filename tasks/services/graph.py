"""What the end of a task means for those that wait for it, through the whole graph."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from django.db import connection

from tasks.models import Dependency, Later, Task
from tasks.parents import Judgement, Parent, Prospect, judge
from tasks.services.ready import enter_line, enter_many
from tasks.services.transitions import End, end_many, move
from tasks.states import TERMINAL, Status, parent_reason

# The children, and beyond those that can be cancelled with their parent, theirs: as far as a bad end
# can reach. What has ended already is not touched by it.
REACHED = """
WITH RECURSIVE reached AS (
  SELECT child_id AS id FROM dependency WHERE parent_id = ANY(%(parents)s)
  UNION
  SELECT d.child_id
    FROM reached
    JOIN task ON task.id = reached.id AND task.finished_at IS NULL
     AND task.on_parent_failure = 'cancel' AND %(bad)s
    JOIN dependency d ON d.parent_id = reached.id
)
SELECT id FROM reached
"""

NEEDED = (
    *("ordinal", "status", "status_reason", "last_seq", "tenant_id", "queue", "priority", "preemptible"),
    *("type", "type_version", "epoch", "key", "on_parent_failure"),
)
"""What is read of tasks that can be reached. A row may be large: params, checkpoints, results."""

JUST_NOW = datetime.max.replace(tzinfo=UTC)
"""When those end that are being cancelled: after everything that has ended already."""


def release_children(*parents: Task) -> None:
    """Let the end of locked tasks take effect on all that wait for them.

    Whatever can be reached is locked first, in order of submission; a child's ordinal is above its
    parents', so every process locks downwards in one order and none can block another for ever. Then
    each is judged once, after its parents. A graph costs a few statements however deep and wide it is.
    """
    if not parents:
        return
    tasks = _lock_reached(parents)
    families = parents_of(*tasks)
    cancelled: dict[uuid.UUID, Parent] = {}
    ends: list[End] = []
    free: list[Task] = []
    for task in sorted(tasks.values(), key=lambda each: each.ordinal):
        if task.status not in (Status.BLOCKED, Status.SCHEDULED, Status.ALLOCATED):
            continue
        family = [cancelled.get(parent.id, parent) for parent in families[task.pk]]
        judgement = judge(family, run_anyway=task.on_parent_failure == "run")
        if judgement.prospect is Prospect.DOOMED:
            cancelled[task.pk] = Parent(task.pk, Status.CANCELLED, JUST_NOW)
            ends.append(_end(task, judgement))
        elif judgement.prospect is Prospect.FREE and task.status == Status.BLOCKED:
            free.append(task)
    enter_many(free)
    _cancel(ends)


def proceed(task: Task, *, facts: Mapping[str, Any] | None = None, **columns: Any) -> None:
    """Move a locked task that waits no longer for time or inputs on: where its parents let it."""
    judgement = judgement_of(task)
    if judgement.prospect is Prospect.FREE:
        enter_line(task, facts=facts, **columns)
    elif judgement.prospect is Prospect.DOOMED:
        _cancel([_end(task, judgement)])
    elif task.status != Status.BLOCKED:
        move(task, Status.BLOCKED, facts=facts, **columns)


def settle(child: Task) -> None:
    """Cancel a new task that waits for a parent in vain, as if it had been there when that ended."""
    judgement = judgement_of(child)
    if judgement.prospect is Prospect.DOOMED:
        _cancel([_end(child, judgement)])


def judgement_of(task: Task) -> Judgement:
    """Return what a task can expect of its parents as they are now."""
    family = parents_of(task.pk)[task.pk]
    return judge(family, run_anyway=task.on_parent_failure == "run")


def parents_of(*ids: uuid.UUID) -> Mapping[uuid.UUID, list[Parent]]:
    """Return the tasks that each of these tasks depends on. One query."""
    found: dict[uuid.UUID, list[Parent]] = {task_id: [] for task_id in ids}
    rows = Dependency.objects.filter(child_id__in=ids).values_list(
        "child_id", "parent_id", "parent__status", "parent__finished_at"
    )
    for child_id, parent_id, status, finished_at in rows:
        found[child_id].append(Parent(parent_id, status, finished_at))
    return found


def _lock_reached(parents: Iterable[Task]) -> dict[uuid.UUID, Task]:
    """Lock what the ends of ``parents`` can reach.

    Whoever adds a child locks its parents first. So one that was added while we waited for a lock is
    there when we look again, and with nothing new to lock, nothing can be added any more.
    """
    ids = [parent.pk for parent in parents]
    bad = any(parent.status in TERMINAL - {Status.COMPLETED} for parent in parents)
    seen: set[uuid.UUID] = set()
    locked: dict[uuid.UUID, Task] = {}
    while True:
        with connection.cursor() as cursor:
            cursor.execute(REACHED, {"parents": ids, "bad": bad})
            fresh = {row[0] for row in cursor.fetchall()} - seen
        if not fresh:
            return locked
        seen |= fresh
        rows = Task.objects.select_for_update().only(*NEEDED).filter(pk__in=fresh).order_by("ordinal")
        locked.update((task.pk, task) for task in rows)


def _end(child: Task, judgement: Judgement) -> End:
    culprit = judgement.culprit
    assert culprit is not None  # noqa: S101 - a doomed task has one
    return End(child, parent_reason(culprit.status), {"parent": str(culprit.id)})


def _cancel(ends: list[End]) -> None:
    if ends:
        Later.objects.filter(task_id__in=[end.task.pk for end in ends]).delete()
        end_many(ends, Status.CANCELLED)
