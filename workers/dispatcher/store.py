"""What the dispatcher reads and writes in PostgreSQL, one function per statement.

Locking and reading are separate statements throughout: in one, ``SKIP LOCKED`` or a waited-for lock
together with the statement's older snapshot silently strands rows (DESIGN §5).
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Q

from tasks.models import LimitsRevision, Pause, TaskType
from tasks.services.ready import add_to_backlog
from tasks.states import Queue
from tenants.models import Limit, Tenant
from workers.dispatcher.allowances import LaneLimits, TenantLimits
from workers.dispatcher.lanes import Candidate

NAME = "dispatcher"
LONGEST_WAIT = 8
"""The longest wait for a claim, in times of the dispatch timeout."""

# A loose index scan: one probe per lane instead of one row per task, so its cost is the number of
# lanes that have work and not the length of the backlog.
LANES_WITH_WORK = """
WITH RECURSIVE lane AS (
  (SELECT tenant_id FROM ready WHERE queue = %(queue)s ORDER BY tenant_id LIMIT 1)
  UNION ALL
  SELECT (SELECT r.tenant_id FROM ready r WHERE r.queue = %(queue)s AND r.tenant_id > lane.tenant_id
           ORDER BY r.tenant_id LIMIT 1)
    FROM lane WHERE lane.tenant_id IS NOT NULL
)
SELECT tenant_id FROM lane WHERE tenant_id IS NOT NULL
"""

HEADS = """
SELECT wanted.tenant_id, head.task_id, head.rank, head.ordinal, head.type_id, head.type_version
  FROM unnest(%(tenants)s::bigint[]) AS wanted(tenant_id)
 CROSS JOIN LATERAL (
   SELECT task_id, rank, ordinal, type_id, type_version FROM ready r
    WHERE r.queue = %(queue)s AND r.tenant_id = wanted.tenant_id
    ORDER BY r.rank, r.ordinal LIMIT %(depth)s
 ) AS head
 ORDER BY wanted.tenant_id, head.rank, head.ordinal
"""

# Only the leader of this epoch can delete, and a row can be deleted once: two leaders, or one that
# was paused, cannot dispatch a task twice. And only under the limits it decided by: whoever was told
# that a limit is set can submit at once and rely on it.
DISPATCH = """
WITH led AS (
  SELECT 1 FROM leader WHERE name = %(name)s AND epoch = %(leader)s
     AND %(limits)s = (SELECT revision FROM limits_revision) FOR SHARE
), gone AS (
  DELETE FROM ready r
   USING led, unnest(%(ids)s::uuid[], %(tokens)s::text[]) AS chosen(id, token)
   WHERE r.task_id = chosen.id
  RETURNING r.*, chosen.token
)
INSERT INTO inflight (task_id, queue, tenant_id, rank, ordinal, type_id, type_version, preemptible,
                      epoch, token, state, lease_until, dispatched_at, publishes)
SELECT task_id, queue, tenant_id, rank, ordinal, type_id, type_version, preemptible, epoch, token,
       'dispatched',
       clock_timestamp() + make_interval(secs => %(timeout)s), clock_timestamp(), 1
  FROM gone
RETURNING task_id, queue, tenant_id, epoch, token
"""

PARK = """
WITH led AS (
  SELECT 1 FROM leader WHERE name = %(name)s AND epoch = %(leader)s FOR SHARE
), gone AS (
  DELETE FROM ready r USING led, unnest(%(ids)s::uuid[]) AS chosen(id) WHERE r.task_id = chosen.id
  RETURNING r.*
)
INSERT INTO parked (task_id, queue, tenant_id, rank, ordinal, epoch, type_id, type_version,
                    preemptible, reason)
SELECT task_id, queue, tenant_id, rank, ordinal, epoch, type_id, type_version, preemptible, %(reason)s
  FROM gone
"""

UNPARK = """
WITH led AS (
  SELECT 1 FROM leader WHERE name = %(name)s AND epoch = %(leader)s FOR SHARE
), gone AS (
  DELETE FROM parked p
   USING led, unnest(%(types)s::int[], %(versions)s::int[]) AS able(type_id, version)
   WHERE p.reason = 'no_worker' AND p.queue = %(queue)s
     AND p.type_id = able.type_id AND p.type_version <= able.version
  RETURNING p.*
)
INSERT INTO ready (task_id, queue, tenant_id, rank, ordinal, epoch, type_id, type_version, preemptible)
SELECT task_id, queue, tenant_id, rank, ordinal, epoch, type_id, type_version, preemptible FROM gone
RETURNING tenant_id
"""

UNPAUSE = """
WITH led AS (
  SELECT 1 FROM leader WHERE name = %(name)s AND epoch = %(leader)s FOR SHARE
), gone AS (
  DELETE FROM parked p USING led
   WHERE p.reason = 'paused' AND p.type_id <> ALL(%(types)s::int[])
  RETURNING p.*
)
INSERT INTO ready (task_id, queue, tenant_id, rank, ordinal, epoch, type_id, type_version, preemptible)
SELECT task_id, queue, tenant_id, rank, ordinal, epoch, type_id, type_version, preemptible FROM gone
RETURNING queue, tenant_id
"""

# Each time waits twice as long, up to LONGEST_WAIT times the timeout. A worker that is slower than the
# timeout (a machine under load) would otherwise find every claim void by the time it makes it, and
# the task would never start.
REPUBLISH = """
UPDATE inflight i
   SET epoch = i.epoch + 1, token = fresh.token, publishes = i.publishes + 1,
       lease_until = clock_timestamp()
                     + make_interval(secs => %(timeout)s * least(2 ^ i.publishes, %(longest)s))
  FROM unnest(%(ids)s::uuid[], %(epochs)s::int[], %(tokens)s::text[]) AS fresh(id, epoch, token)
 WHERE i.task_id = fresh.id AND i.epoch = fresh.epoch AND i.state = 'dispatched'
   AND EXISTS (SELECT 1 FROM leader WHERE name = %(name)s AND epoch = %(leader)s)
RETURNING i.task_id, i.queue, i.tenant_id, i.epoch, i.token
"""

LANE_SNAPSHOT = """
INSERT INTO lane (tenant_id, queue, running, waiting_for, detail, vtime, updated_at)
SELECT *, clock_timestamp()
  FROM unnest(%(tenants)s::bigint[], %(queues)s::text[], %(running)s::int[], %(reasons)s::text[],
              %(details)s::text[], %(vtimes)s::float8[])
ON CONFLICT (tenant_id, queue) DO UPDATE
   SET running = excluded.running, waiting_for = excluded.waiting_for, detail = excluded.detail,
       vtime = excluded.vtime, updated_at = excluded.updated_at
"""


@dataclass(frozen=True, slots=True)
class Doorbell:
    """What is published for one attempt: the whole content of a broker message."""

    task_id: uuid.UUID
    queue: str
    tenant_id: int
    epoch: int
    token: str


@dataclass(frozen=True, slots=True)
class InflightRow:
    """A dispatched or running task, as the dispatcher counts it; ``pool`` is where it has a slot."""

    task_id: uuid.UUID
    queue: str
    tenant_id: int
    type_id: int
    epoch: int
    running: bool
    pool: str


@dataclass(frozen=True, slots=True)
class LaneState:
    """One row of the lane snapshot."""

    tenant_id: int
    queue: str
    running: int
    reason: str
    detail: str
    vtime: float


def lanes_with_work(queue: str) -> list[int]:
    """Return the tenants that have a ready task in ``queue``."""
    with connection.cursor() as cursor:
        cursor.execute(LANES_WITH_WORK, {"queue": queue})
        return [row[0] for row in cursor.fetchall()]


def heads(queue: str, tenants: Sequence[int], depth: int) -> dict[int, list[Candidate]]:
    """Return the first ``depth`` tasks of each lane, in order."""
    found: dict[int, list[Candidate]] = {tenant_id: [] for tenant_id in tenants}
    with connection.cursor() as cursor:
        cursor.execute(HEADS, {"queue": queue, "tenants": list(tenants), "depth": depth})
        for tenant_id, *columns in cursor.fetchall():
            found[tenant_id].append(Candidate(*columns))
    return found


def dispatch(leader: int, limits: int, chosen: Iterable[Candidate]) -> list[Doorbell]:
    """Move tasks from ``ready`` to ``inflight`` and return those that were moved.

    None are, if ``leader`` is not the leader's epoch or ``limits`` not the current revision.
    """
    ids = [candidate.task_id for candidate in chosen]
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            DISPATCH,
            {
                "name": NAME,
                "leader": leader,
                "limits": limits,
                "ids": _array(ids),
                "tokens": _array(new_token() for _ in ids),
                "timeout": settings.SWITCHYARD.dispatch_timeout,
            },
        )
        moved = [Doorbell(*row) for row in cursor.fetchall()]
        changes: dict[tuple[int, str], int] = {}
        for doorbell in moved:
            lane = (doorbell.tenant_id, doorbell.queue)
            changes[lane] = changes.get(lane, 0) - 1
        add_to_backlog(changes)
    return moved


def park(leader: int, task_ids: Iterable[uuid.UUID], reason: str) -> None:
    """Take tasks out of their lanes that cannot start whatever the lanes' turn."""
    with connection.cursor() as cursor:
        cursor.execute(PARK, {"name": NAME, "leader": leader, "ids": list(task_ids), "reason": reason})


def unpark(leader: int, queue: str, types: Mapping[int, int]) -> set[int]:
    """Bring tasks back that no worker could run: of these types, up to the version given of each.

    Returns the tenants whose lanes have grown.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            UNPARK,
            {
                "name": NAME,
                "leader": leader,
                "queue": queue,
                "types": list(types),
                "versions": list(types.values()),
            },
        )
        return {row[0] for row in cursor.fetchall()}


def pauses() -> tuple[set[str], set[int]]:
    """Return the queues that are paused and the ids of the task types that are."""
    paused: dict[str, set[str]] = {"queue": set(), "type": set()}
    for subject, name in Pause.objects.values_list("subject", "name"):
        paused[subject].add(name)
    types = TaskType.objects.filter(name__in=paused["type"]).values_list("pk", flat=True)
    return paused["queue"], set(types)


def unpause(leader: int, still_paused: Iterable[int]) -> set[tuple[str, int]]:
    """Bring tasks back whose type is not paused any more; return the lanes that have grown."""
    with connection.cursor() as cursor:
        cursor.execute(UNPAUSE, {"name": NAME, "leader": leader, "types": list(still_paused)})
        return {(row[0], row[1]) for row in cursor.fetchall()}


def unclaimed(pool: str, limit: int) -> tuple[int, list[tuple[uuid.UUID, int]]]:
    """Return how many tasks a pool was sent and has not claimed, and the overdue of them, oldest first.

    Those that were lent its slots are in the number alone (see :func:`lending.take_back`).
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM inflight WHERE coalesce(pool, queue) = %s AND state = 'dispatched'",
            [pool],
        )
        total = cursor.fetchone()
        cursor.execute(
            "SELECT task_id, epoch FROM inflight"
            " WHERE queue = %s AND pool IS NULL AND state = 'dispatched'"
            " AND lease_until < clock_timestamp() ORDER BY dispatched_at LIMIT %s",
            [pool, limit],
        )
        return (total[0] if total else 0), [(row[0], row[1]) for row in cursor.fetchall()]


def republish(leader: int, overdue: Sequence[tuple[uuid.UUID, int]]) -> list[Doorbell]:
    """Give unclaimed tasks a new epoch and token, which makes their old messages void."""
    with connection.cursor() as cursor:
        cursor.execute(
            REPUBLISH,
            {
                "name": NAME,
                "leader": leader,
                "ids": [task_id for task_id, _ in overdue],
                "epochs": [epoch for _, epoch in overdue],
                "tokens": [new_token() for _ in overdue],
                "timeout": settings.SWITCHYARD.dispatch_timeout,
                "longest": LONGEST_WAIT,
            },
        )
        return [Doorbell(*row) for row in cursor.fetchall()]


def grant_time(overdue: Sequence[tuple[uuid.UUID, int]]) -> None:
    """Leave messages that still wait in the broker as they are, and look again later."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE inflight SET lease_until = clock_timestamp() + make_interval(secs => %s)"
            " WHERE state = 'dispatched' AND task_id = ANY(%s)",
            [settings.SWITCHYARD.dispatch_timeout, [task_id for task_id, _ in overdue]],
        )


def inflight() -> list[InflightRow]:
    """Return all that is dispatched or running; a few thousand rows at most."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT task_id, queue, tenant_id, type_id, epoch, state = 'running',"
            " coalesce(pool, queue) FROM inflight"
        )
        return [InflightRow(*row) for row in cursor.fetchall()]


def tenant_limits() -> Mapping[int, TenantLimits]:
    """Return the limits of every tenant that has any, or is paused."""
    totals: dict[int, int | None] = {}
    weights: dict[int, float] = {}
    rates: dict[int, float | None] = {}
    own_limits: dict[int, dict[str, tuple[int | None, int]]] = {}
    rows = Limit.objects.values_list(
        "tenant_id", "queue", "running", "min_running", "weight", "dispatch_per_second"
    )
    for tenant_id, queue, running, minimum, weight, rate in rows:
        if queue:
            own_limits.setdefault(tenant_id, {})[queue] = (running, minimum or 0)
        else:
            totals[tenant_id], weights[tenant_id], rates[tenant_id] = running, weight, rate
    limits = {}
    with_limits = Tenant.objects.filter(Q(paused=True) | Q(pk__in=weights.keys() | own_limits.keys()))
    for tenant_id, slug, paused in with_limits.values_list("pk", "slug", "paused"):
        # The weight is the tenant's, in all queues: the API knows no other.
        weight = weights.get(tenant_id, 1.0)
        own = own_limits.get(tenant_id, {})
        lanes = {
            queue.value: LaneLimits(*own.get(queue.value, (None, 0)), weight=weight) for queue in Queue
        }
        limits[tenant_id] = TenantLimits(
            totals.get(tenant_id), paused, rates.get(tenant_id), lanes, slug
        )
    return limits


def limits_revision() -> int:
    """Return the number that changes with every limit and pause."""
    return LimitsRevision.objects.values_list("revision", flat=True).get()


def write_lanes(states: Sequence[LaneState]) -> None:
    """Write what the dispatcher knows of lanes, for `waiting_for` and the operators."""
    with connection.cursor() as cursor:
        cursor.execute(
            LANE_SNAPSHOT,
            {
                "tenants": [state.tenant_id for state in states],
                "queues": [state.queue for state in states],
                "running": [state.running for state in states],
                "reasons": [state.reason for state in states],
                "details": [state.detail for state in states],
                "vtimes": [state.vtime for state in states],
            },
        )


def due_items(limit: int) -> list[tuple[uuid.UUID, str]]:
    """Return (task, what) of all whose time has come, the longest overdue first."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT task_id, what FROM later WHERE due_at <= clock_timestamp() ORDER BY due_at LIMIT %s",
            [limit],
        )
        return [(row[0], row[1]) for row in cursor.fetchall()]


def _array(values: Iterable[object]) -> str:
    """Return plain values (no quotes, commas or spaces in them) as PostgreSQL writes an array.

    For hundreds of them it costs the driver several milliseconds to quote each by itself.
    """
    return "{" + ",".join(map(str, values)) + "}"


def new_token() -> str:
    """Return what proves that a message comes from the dispatcher."""
    return secrets.token_urlsafe(24)
