"""Which live worker can run which task: the one rule, for dispatching and for ``waiting_for``.

A worker can run a task when it serves the task's queue and publishes the task's type in at least the
version that the task was submitted against. It is live while it is not draining and its machine has
reported it within :data:`WORKER_SILENT_SECONDS`. A machine whose pool may grow counts as a live worker
without slots: it will start one when tasks wait. ``worker_runs(types, name)`` (migration 0007) gives
the version of a type that a worker publishes, null for none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from django.db import connection

WORKER_SILENT_SECONDS = 10
"""A worker that its machine has not reported for this long gets no more tasks."""

LIVE = (
    "w.status = 'alive'"
    f" AND w.seen_at > clock_timestamp() - make_interval(secs => {WORKER_SILENT_SECONDS})"
)

ABLE = f"""(
  SELECT w.queue, w.slots, w.types FROM worker w WHERE {LIVE}
   UNION ALL
  SELECT m.queue, 0, m.types FROM pool_machine m
   WHERE m.most > 0 AND m.seen_at > clock_timestamp() - make_interval(secs => {WORKER_SILENT_SECONDS})
)"""  # noqa: S608 - our own text

# A worker that drains takes nothing new, but what it runs is in flight and would otherwise seem to be in
# the slots of the others, which would then stay empty until it ends.
CAPACITIES = f"""
SELECT w.queue, w.slots, coalesce(known.ids, '{{}}'), coalesce(known.versions, '{{}}')
  FROM {ABLE} w
 CROSS JOIN LATERAL (
   SELECT array_agg(t.id) AS ids, array_agg(worker_runs(w.types, t.name)) AS versions
     FROM task_type t WHERE worker_runs(w.types, t.name) IS NOT NULL) known
 UNION ALL
SELECT w.queue, count(*)::integer, '{{}}', '{{}}'
  FROM worker w JOIN inflight i ON i.worker = w.id AND i.state = 'running'
 WHERE w.status = 'draining'
 GROUP BY w.queue
"""  # noqa: S608 - our own text


@dataclass(frozen=True, slots=True)
class Capacity:
    """What the workers of one queue can take: slots, and the newest version of each type's id.

    Of workers that drain the slots count in which they still run something.
    """

    slots: int = 0
    types: Mapping[int, int] = field(default_factory=dict)

    def can_run(self, type_id: int, version: int) -> bool:
        """Return whether some worker publishes the type in this version or a newer one."""
        return self.types.get(type_id, 0) >= version


def capacities() -> dict[str, Capacity]:
    """Return what each queue's live workers and growing pools can take; without any it is not there."""
    with connection.cursor() as cursor:
        cursor.execute(CAPACITIES)
        rows = cursor.fetchall()
    found: dict[str, Capacity] = {}
    for queue, slots, ids, versions in rows:
        before = found.get(queue, Capacity())
        types = dict(before.types)
        for type_id, version in zip(ids, versions, strict=True):
            types[type_id] = max(version, types.get(type_id, 0))
        found[queue] = Capacity(before.slots + slots, types)
    return found


def newest_version(queue: str, type_name: str) -> str:
    """Return SQL for the newest version of a type that a queue's pool can run, or null.

    Both arguments are SQL expressions of ours, never input.
    """
    return (
        f"(SELECT max(worker_runs(w.types, {type_name})) FROM {ABLE} w"  # noqa: S608 - our own text
        f" WHERE w.queue = {queue})"
    )


def no_worker_detail(queue: str, type_name: str, version: int, newest: int | None) -> str:
    """Return the sentence for a task that no live worker can run."""
    if newest is None:
        return f"No worker of the {queue} pool can run {type_name}."
    return (
        f"The workers of the {queue} pool run {type_name} in version {newest} at most; this task "
        f"needs version {version}."
    )
