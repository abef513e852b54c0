"""Claiming a dispatched task and keeping the claim alive: the worker's side of the lease."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from uuid_utils.compat import uuid7

from rest.statements import Statement, ask
from tasks.announce import announce

# One statement, so that a claim costs one round trip and one commit. It locks the task first, as
# every state change does; a duplicate, stale or forged message, or a task that was cancelled in
# the meantime, finds no row and writes nothing.
CLAIM = Statement("""
WITH locked AS (
  SELECT id, type, type_version FROM task
   WHERE id = %(task)s AND status = 'queued' FOR UPDATE
), taken AS (
  UPDATE inflight i
     SET state = 'running', worker = %(worker)s,
         lease_until = clock_timestamp() + make_interval(secs => %(lease)s)
    FROM locked
   WHERE i.task_id = locked.id AND i.epoch = %(epoch)s AND i.token = %(token)s
     AND coalesce(i.pool, i.queue) = %(queue)s AND i.state = 'dispatched'
     -- An older worker beside newer ones of its pool; one that is not on record yet may try.
     AND NOT EXISTS (SELECT 1 FROM worker w WHERE w.id = %(worker)s
                        AND coalesce(worker_runs(w.types, locked.type), 0) < locked.type_version)
  RETURNING i.task_id, i.epoch
), started AS (
  UPDATE task t
     SET status = 'running', status_reason = NULL, attempt = t.attempt + 1, epoch = taken.epoch,
         started_at = coalesce(t.started_at, clock_timestamp()), last_seq = t.last_seq + 1,
         error = NULL
    FROM taken
   WHERE t.id = taken.task_id
  RETURNING t.*
), run AS (
  INSERT INTO run (id, task_id, attempt, life, epoch, status, worker, machine, isolation, pid,
                   started_at, progress_percent, progress_step, log_bytes, log_lines,
                   log_truncated)
  SELECT %(run)s, id, attempt, life, epoch, 'running', %(worker)s, %(machine)s, %(isolation)s,
         %(pid)s, clock_timestamp(), 0, '', 0, 0, false
    FROM started
), event AS (
  INSERT INTO event (task_id, seq, tenant_id, at, kind, run, data)
  SELECT id, last_seq, tenant_id, clock_timestamp(), 'state', attempt,
         jsonb_build_object('status', 'running', 'from', 'queued', 'reason', NULL,
                            'attempt', attempt)
    FROM started
)
SELECT row_to_json(answer) FROM (
SELECT s.id AS task_id, s.tenant_id, s.type, s.queue, s.attempt, s.epoch, s.last_seq, s.params,
       s.idempotent, s.time_limit, s.limits, s.inputs, s.secrets, s.checkpoint, s.request_id,
       clock_timestamp() AS started_at,
       -- The type's row is the newest worker's: an older one has its handler where it said itself, and
       -- a task of before was checked against a schema that is not there any more.
       tenant.slug AS tenant, coalesce(w.handlers ->> s.type, ty.handler) AS handler, ty.steering,
       -- Nor is there need to check again what was checked against this very schema. The margin is for a
       -- submission that was under way when the type changed.
       CASE WHEN s.type_version = ty.version AND s.created_at < ty.updated_at + interval '10 s'
            THEN ty.params_schema END AS params_schema,
       ty.network AS type_network, ty.on_shutdown, tenant.network_permitted AS tenant_network
  FROM started s
  JOIN tenants_tenant tenant ON tenant.id = s.tenant_id
  JOIN task_type ty ON ty.name = s.type
  LEFT JOIN worker w ON w.id = %(worker)s
) answer
""")

# A message that was good, and still could not be claimed, was given to a worker that cannot run its
# task: the dispatcher is to publish it again for another one. At once, the first time; while the able
# workers are busy it may come to the same one again and again, so each further time waits a little
# longer, and never so long that a slot that is free by then would stay idle.
HAND_BACK = Statement("""
UPDATE inflight
   SET lease_until = clock_timestamp() + make_interval(secs => least((publishes - 1) / 4.0, 5))
 WHERE task_id = %(task)s AND epoch = %(epoch)s AND token = %(token)s
   AND coalesce(pool, queue) = %(queue)s AND state = 'dispatched'
""")

RENEW = Statement("""
UPDATE inflight SET lease_until = clock_timestamp() + make_interval(secs => %(lease)s)
 WHERE task_id = %(task)s AND epoch = %(epoch)s AND state = 'running'
RETURNING to_json(coalesce(ask, ''))
""")

ASKED = Statement("""
SELECT to_json(coalesce(ask, '')) FROM inflight
 WHERE task_id = %(task)s AND epoch = %(epoch)s AND state = 'running'
""")


@dataclass(frozen=True, slots=True)
class Claimed:
    """What a worker needs to know of the run it has just been given.

    ``params_schema`` is None where the params need not be checked again.
    """

    task_id: uuid.UUID
    tenant_id: int
    tenant: str
    type: str
    queue: str
    attempt: int
    epoch: int
    run_id: uuid.UUID
    params: dict[str, Any]
    idempotent: bool
    time_limit: float | None
    limits: dict[str, Any]
    inputs: list[str]
    secrets: list[str]
    checkpoint: Any
    request_id: str
    handler: str
    steering: bool
    params_schema: dict[str, Any] | None
    type_network: bool
    on_shutdown: str
    tenant_network: bool
    started_at: datetime


def claim(
    task_id: uuid.UUID,
    epoch: int,
    token: str,
    *,
    queue: str,
    worker: uuid.UUID,
    machine: str,
    isolation: str,
    pid: int,
) -> Claimed | None:
    """Turn a dispatched task into a running one and make its run, or return None.

    ``queue`` is that of the worker's pool. None means that the message was a duplicate, stale or
    forged one, that the task was cancelled, or that it was sent to another pool; nothing has changed
    then. Or this worker is too old for the task: then it will be published again soon.
    """
    run_id = uuid7()
    values: dict[str, Any] = {
        "task": task_id,
        "epoch": epoch,
        "token": token,
        "queue": queue,
        "worker": worker,
        "machine": machine,
        "isolation": isolation,
        "pid": pid,
        "run": run_id,
        "lease": settings.SWITCHYARD.lease,
    }
    (row,) = ask(CLAIM.of(values))
    if row is None:
        ask(HAND_BACK.of(values))
        return None
    announce(task_id, row["tenant_id"], row.pop("last_seq"))
    row["task_id"] = task_id
    row["started_at"] = datetime.fromisoformat(row["started_at"])
    return Claimed(run_id=run_id, **row)


def renew(task_id: uuid.UUID, epoch: int) -> str | None:
    """Extend the lease; return what is asked of the run ("" for nothing), or None if it is lost."""
    values = {"task": task_id, "epoch": epoch, "lease": settings.SWITCHYARD.lease}
    answer: str | None = ask(RENEW.of(values))[0]
    return answer


def asked(task_id: uuid.UUID, epoch: int) -> str | None:
    """Return what is asked of the run, as :func:`renew` does, without extending the lease."""
    answer: str | None = ask(ASKED.of({"task": task_id, "epoch": epoch}))[0]
    return answer
