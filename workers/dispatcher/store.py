"""What the dispatcher reads and writes in PostgreSQL, one function per statement.

Locking and reading are separate statements throughout: in one, ``SKIP LOCKED`` or a waited-for lock
together with the statement's older snapshot silently strands rows.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, NamedTuple

import psycopg
from django.conf import settings
from django.db import connection
from django.db.models import Q

from rest.ties import again_on_ties
from tasks.models import LimitsRevision
from tasks.states import Queue
from tenants.models import Limit, Tenant
from tenants.windows import windows_of
from workers.dispatcher.allowances import LaneLimits, TenantLimits
from workers.dispatcher.lanes import Candidate, Position

NAME = "dispatcher"
LONGEST_WAIT = 8
"""The longest wait for a claim, in times of the dispatch timeout."""

# A loose index scan: one probe per lane instead of one row per task, so its cost is the number of
# lanes that have work and not the length of the backlog. Backwards, so that it meets the end of each
# lane: at the front stand the dead rows of those that have left.
LANES_WITH_WORK = """
WITH RECURSIVE lane AS (
  (SELECT tenant_id FROM ready WHERE queue = %(queue)s ORDER BY tenant_id DESC LIMIT 1)
  UNION ALL
  SELECT (SELECT r.tenant_id FROM ready r WHERE r.queue = %(queue)s AND r.tenant_id < lane.tenant_id
           ORDER BY r.tenant_id DESC LIMIT 1)
    FROM lane WHERE lane.tenant_id IS NOT NULL
)
SELECT tenant_id FROM lane WHERE tenant_id IS NOT NULL
"""

HEADS = """
SELECT wanted.tenant_id, head.task_id, head.rank, head.ordinal, head.type_id, head.type_version,
       head.ctid::text
  FROM unnest(%(tenants)b::bigint[], %(ranks)b::int[], %(ordinals)b::bigint[])
       AS wanted(tenant_id, rank, ordinal)
 CROSS JOIN LATERAL (
   SELECT task_id, rank, ordinal, type_id, type_version, ctid FROM ready r
    WHERE r.queue = %(queue)s AND r.tenant_id = wanted.tenant_id
      AND (r.rank, r.ordinal) > (wanted.rank, wanted.ordinal)
    ORDER BY r.rank, r.ordinal LIMIT %(depth)s
 ) AS head
 ORDER BY wanted.tenant_id, head.rank, head.ordinal
"""

# What proves that a message comes from the dispatcher: nobody who has seen the tokens of others can
# tell it without the secret, which is drawn for one statement and kept nowhere.
PROOF = "left(encode(sha256(%(secret)b || uuid_send({task})), 'hex'), 43)"

# One statement, so that a batch costs one round trip and one commit. Only the leader of this epoch can
# delete, and a row can be deleted once: two leaders, or one that was paused, cannot dispatch a task
# twice. And only under the limits it decided by: whoever was told that a limit is set can submit at
# once and rely on it. The ids come in the order of the tasks' ordinals, in which a bulk cancel takes
# tasks out of line too, so that neither waits for the other in a circle. The counters come last, in the
# order in which everybody locks them; a counter that is too new to be seen here is not settled, so it is
# counted anew (tasks.services.recount).
#
# A row is looked for where it stood when it was read, which takes half as long as by the index of ids.
# Rows of `ready` are never changed; if one has moved all the same (VACUUM FULL), or its place is another
# row's by now, it is not dispatched, and its lane is read anew.
#
# The commit does not wait for the disk. If the server crashes before it is written, nothing that came
# after it is written either, a claim least of all: the task is in line again, and the message that was
# published has a token that no row knows.
DISPATCH = f"""
WITH led AS (
  SELECT set_config('synchronous_commit', 'off', true)
    FROM leader WHERE name = %(name)s AND epoch = %(leader)s
     AND %(limits)s = (SELECT revision FROM limits_revision) FOR SHARE
), gone AS (
  DELETE FROM ready r
   USING led, unnest(%(places)b::text[]::tid[], %(ids)b::uuid[]) AS chosen(place, id)
   WHERE r.ctid = chosen.place AND r.task_id = chosen.id
  RETURNING r.*
), moved AS (
  INSERT INTO inflight (task_id, queue, tenant_id, rank, ordinal, type_id, type_version, preemptible,
                        epoch, token, state, lease_until, dispatched_at, publishes)
  SELECT task_id, queue, tenant_id, rank, ordinal, type_id, type_version, preemptible, epoch,
         {PROOF.format(task="task_id")}, 'dispatched',
         clock_timestamp() + make_interval(secs => %(timeout)s), clock_timestamp(), 1
    FROM gone
  RETURNING task_id, queue, tenant_id, epoch, token
), fewer AS (
  SELECT tenant_id, coalesce(queue, '') AS queue, count(*)::int AS n
    FROM gone GROUP BY GROUPING SETS ((tenant_id, queue), (tenant_id))
), locked AS (
  SELECT b.id, fewer.n
    FROM backlog b JOIN fewer ON b.tenant_id = fewer.tenant_id AND b.queue = fewer.queue
   ORDER BY b.tenant_id, b.queue
     FOR UPDATE OF b
), counted AS (
  UPDATE backlog b SET queued = greatest(0, b.queued - locked.n) FROM locked WHERE b.id = locked.id
)
SELECT task_id, queue, tenant_id, epoch, token FROM moved
"""  # noqa: S608 - our own text

# Each time waits twice as long, up to LONGEST_WAIT times the timeout. A worker that is slower than the
# timeout (a machine under load) would otherwise find every claim void by the time it makes it, and
# the task would never start. Neither the power nor the count may leave its type, however long a task
# waits: the error would be every task's.
REPUBLISH = f"""
UPDATE inflight i
   SET epoch = i.epoch + 1, token = {PROOF.format(task="i.task_id")},
       publishes = least(i.publishes + 1, 32767),
       lease_until = clock_timestamp()
                     + make_interval(secs => %(timeout)s
                                     * least(2 ^ least(i.publishes, 10), %(longest)s))
  FROM unnest(%(ids)b::uuid[], %(epochs)b::int[]) AS overdue(id, epoch)
 WHERE i.task_id = overdue.id AND i.epoch = overdue.epoch AND i.state = 'dispatched'
   AND EXISTS (SELECT 1 FROM leader WHERE name = %(name)s AND epoch = %(leader)s)
RETURNING i.task_id, i.queue, i.tenant_id, i.epoch, i.token
"""  # noqa: S608 - our own text

# Of each queue its own oldest: one whose broker has lost much takes nothing from the others.
OVERDUE = """
SELECT wanted.queue, late.task_id, late.epoch
  FROM unnest(%(queues)s::text[]) AS wanted(queue)
 CROSS JOIN LATERAL (
   SELECT task_id, epoch FROM inflight i
    WHERE i.queue = wanted.queue AND pool IS NULL AND state = 'dispatched'
      AND lease_until < clock_timestamp() AND task_id <> ALL(%(but)s::uuid[])
    ORDER BY dispatched_at LIMIT %(limit)s
 ) AS late
"""

UNCLAIMED = """
SELECT count(*) FROM inflight WHERE coalesce(pool, queue) = %(pool)s AND state = 'dispatched'
"""

DUE = """
SELECT task_id, what FROM later
 WHERE due_at <= clock_timestamp() AND task_id <> ALL(%(but)s::uuid[])
 ORDER BY due_at LIMIT %(limit)s
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


class Doorbell(NamedTuple):
    """What is published for one attempt: the whole content of a broker message."""

    task_id: uuid.UUID
    queue: str
    tenant_id: int
    epoch: int
    token: str


InflightRow = tuple[int, str, int, int, bool, uuid.UUID, str]
"""A dispatched or running task as it is counted: ordinal, queue, tenant, type, whether it runs, id, and
the pool in which it has a slot."""


@dataclass(frozen=True, slots=True)
class LaneState:
    """One row of the lane snapshot."""

    tenant_id: int
    queue: str
    running: int
    reason: str
    detail: str
    vtime: float


def forget_plans() -> None:
    """Have PostgreSQL plan our statements anew for the tables as large as they are now.

    A session keeps its plans until the tables are analysed. One that was made while nothing was ready
    reads all of a backlog that has come since, once for each lane: with 10,000 lanes it answers no more.
    """
    with connection.cursor() as cursor:
        cursor.execute("DISCARD PLANS")


def lanes_with_work(queue: str) -> list[int]:
    """Return the tenants that have a ready task in ``queue``, in the order of their ids."""
    return [tenant_id for (tenant_id,) in reversed(prepared(LANES_WITH_WORK, {"queue": queue}))]


def heads(queue: str, lanes: Mapping[int, Position], depth: int) -> dict[int, list[Candidate]]:
    """Return the next ``depth`` tasks of each tenant's lane, in order, behind the one that is named."""
    found: dict[int, list[Candidate]] = {tenant_id: [] for tenant_id in lanes}
    values = {
        "queue": queue,
        "tenants": list(lanes),
        "ranks": [rank for rank, _ in lanes.values()],
        "ordinals": [ordinal for _, ordinal in lanes.values()],
        "depth": depth,
    }
    for row in prepared(HEADS, values):
        found[row[0]].append(Candidate._make(row[1:]))
    return found


@again_on_ties
def dispatch(leader: int, limits: int, chosen: Sequence[Candidate]) -> list[Doorbell]:
    """Move tasks from ``ready`` to ``inflight`` and return those that were moved, in the order given.

    None are, if ``leader`` is not the leader's epoch or ``limits`` not the current revision.
    """
    by_age = sorted(chosen, key=_ordinal)
    values = {
        "name": NAME,
        "leader": leader,
        "limits": limits,
        "ids": [candidate.task_id for candidate in by_age],
        "places": [candidate.place for candidate in by_age],
        "secret": _secret(),
        "timeout": settings.SWITCHYARD.dispatch_timeout,
    }
    moved = {row[0]: Doorbell._make(row) for row in prepared(DISPATCH, values)}
    return [moved[each.task_id] for each in chosen if each.task_id in moved]


_ordinal = attrgetter("ordinal")


def overdue_by_queue(
    limit: int, but: Sequence[uuid.UUID] = ()
) -> dict[str, list[tuple[uuid.UUID, int]]]:
    """Return the tasks (id, epoch) that nobody has claimed in time, each queue's oldest first.

    Of one queue ``limit`` at most, and none of ``but``. Those that were lent slots of another pool are
    not among them (see :func:`lending.take_back`).
    """
    found: dict[str, list[tuple[uuid.UUID, int]]] = {}
    values = {"queues": [queue.value for queue in Queue], "limit": limit, "but": list(but)}
    for queue, task_id, epoch in prepared(OVERDUE, values):
        found.setdefault(queue, []).append((task_id, epoch))
    return found


def unclaimed(pool: str) -> int:
    """Return how many tasks a pool was sent and has not claimed, the lent ones among them."""
    ((count,),) = prepared(UNCLAIMED, {"pool": pool})
    return int(count)


@again_on_ties
def republish(leader: int, overdue: Sequence[tuple[uuid.UUID, int]]) -> list[Doorbell]:
    """Give unclaimed tasks a new epoch and token, which makes their old messages void."""
    values = {
        "name": NAME,
        "leader": leader,
        "ids": [task_id for task_id, _ in overdue],
        "epochs": [epoch for _, epoch in overdue],
        "secret": _secret(),
        "timeout": settings.SWITCHYARD.dispatch_timeout,
        "longest": LONGEST_WAIT,
    }
    return [Doorbell._make(row) for row in prepared(REPUBLISH, values)]


@again_on_ties
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
    return prepared(
        "SELECT ordinal, queue, tenant_id, type_id, state = 'running', task_id, coalesce(pool, queue)"
        " FROM inflight",
        {},
    )


def tidy_inflight() -> None:
    """Have PostgreSQL forget the rows that have left ``inflight``.

    Every count reads the whole table. Where thousands of tasks end in a second, PostgreSQL's own
    clean-up, which looks once in a while, lets it grow to a hundred dead rows for each living one. A
    role that may not do this only gets a warning.
    """
    with connection.cursor() as cursor:
        cursor.execute("VACUUM (SKIP_LOCKED, TRUNCATE FALSE) inflight")


def tenant_limits() -> Mapping[int, TenantLimits]:
    """Return the limits of every tenant that has any, or is paused."""
    totals: dict[int, int | None] = {}
    weights: dict[int, float] = {}
    rates: dict[int, float | None] = {}
    own_limits: dict[int, dict[str, dict[str, Any]]] = {}
    rows = Limit.objects.values_list(
        "tenant_id", "queue", "running", "min_running", "weight", "dispatch_per_second", "windows"
    )
    for tenant_id, queue, running, minimum, weight, rate, windows in rows:
        if queue:
            own_limits.setdefault(tenant_id, {})[queue] = {
                "running": running,
                "min_running": minimum or 0,
                "windows": windows_of(windows),
            }
        else:
            totals[tenant_id], weights[tenant_id], rates[tenant_id] = running, weight, rate
    limits = {}
    with_limits = Tenant.objects.filter(Q(paused=True) | Q(pk__in=weights.keys() | own_limits.keys()))
    for tenant_id, slug, paused in with_limits.values_list("pk", "slug", "paused"):
        # The weight is the tenant's, in all queues: the API knows no other.
        weight = weights.get(tenant_id, 1.0)
        own = own_limits.get(tenant_id, {})
        lanes = {queue.value: LaneLimits(weight=weight, **own.get(queue.value, {})) for queue in Queue}
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


def due_items(limit: int, but: Sequence[uuid.UUID] = ()) -> list[tuple[uuid.UUID, str]]:
    """Return (task, what) of those whose time has come and not of ``but``, the longest overdue first."""
    return prepared(DUE, {"limit": limit, "but": list(but)})


def prepared(statement: str, values: Mapping[str, Any]) -> list[Any]:
    """Run one of the statements that come again and again, and return its rows.

    Django's cursor writes all values into the text, which PostgreSQL then reads and plans anew. With
    hundreds of ids that costs more than the statement itself: here it is planned once, and values and
    rows go over the wire as bytes.
    """
    connection.ensure_connection()
    with connection.wrap_database_errors, psycopg.Cursor(connection.connection) as cursor:
        return cursor.execute(statement, values, prepare=True, binary=True).fetchall()


def _secret() -> bytes:
    return secrets.token_bytes(32)
