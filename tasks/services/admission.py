"""Whether a tenant may submit one more task: the queued limits and the submit rate.

Each limit is one conditional UPDATE of a counter row whose row count is the answer, so however many
clients submit at once, none gets past it. Tenants without limits take no lock at all.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db import connection

from tasks.errors import QueuedLimit, SubmitRate
from tasks.models import Backlog, Task
from tasks.services.ready import add_to_backlog, count_now, recount_backlog
from tasks.states import Status
from tenants.selectors import limits_for


def admit(tenant_id: int, queue: str, limits: dict[str, Any], *, enters_line: bool) -> None:
    """Count one submission against the tenant's limits, as the last act of its transaction.

    ``limits`` has the shape of ``PUT /limits``. ``enters_line`` is False for a task that waits for
    something else first: it is charged to the submit rate only. Inside ``one_change``.

    Raises:
        SubmitRate: the tenant submits too fast.
        QueuedLimit: the tenant or the lane is full.
    """
    rate = limits.get("submit_per_second")
    total, lane = _queued(queue, limits)
    if rate is not None:
        _take_token(tenant_id, float(rate))
    # What the submission has taken out of line has made room for it. The rate first, then all counters
    # in their order, also those that are asked below: two submissions never wait for each other.
    count_now(also=[(tenant_id, queue)] if enters_line else ())
    if not enters_line:
        return
    if total is None and lane is None:
        add_to_backlog({(tenant_id, queue): 1})
        return
    # The tenant's counter before the lane's: the order of `add_to_backlog`. Both are raised where
    # they exist, and checked where there is a limit.
    _raise_counter(tenant_id, "", total)
    _raise_counter(tenant_id, queue, lane)


def unlimited(queue: str, limits: dict[str, Any]) -> bool:
    """Return whether no limit of the tenant has to be asked before a task enters a queue's line."""
    return limits.get("submit_per_second") is None and _queued(queue, limits) == (None, None)


def _queued(queue: str, limits: dict[str, Any]) -> tuple[int | None, int | None]:
    """Return how many tasks the tenant may have in line, in all and in this queue."""
    return limits.get("queued"), limits.get("queues", {}).get(queue, {}).get("queued")


def room(tenant_id: int, queue: str, limits: dict[str, Any]) -> None:
    """Raise what :func:`admit` would raise for the queued limits, without counting anything."""
    for name, limit in zip(("", queue), _queued(queue, limits), strict=True):
        if limit is None:
            continue
        row = Backlog.objects.filter(tenant_id=tenant_id, queue=name).first()
        if row is not None and row.queued >= limit:
            raise QueuedLimit(name, limit)


def check_lines(tasks: Iterable[Task]) -> None:
    """Check that those of ``tasks`` fit which this transaction has put into line; as its last act.

    For what somebody asks for that is no submission: a retry, or letting go. What the platform puts
    into line by itself always finds room.

    Raises:
        QueuedLimit: the tenant or a lane has a task too many now.
    """
    lanes = {(task.tenant_id, task.queue): task for task in tasks if task.status == Status.QUEUED}
    if not lanes:
        return
    # It locks the counters, so what is read behind it holds until the end.
    count_now()
    for (tenant_id, queue), task in sorted(lanes.items(), key=lambda lane: lane[0]):
        _check_line(tenant_id, queue, limits_for(task.tenant))


def _check_line(tenant_id: int, queue: str, limits: dict[str, Any]) -> None:
    for name, limit in zip(("", queue), _queued(queue, limits), strict=True):
        if limit is None:
            continue
        counted = Backlog.objects.filter(tenant_id=tenant_id, queue=name)
        if not counted.filter(settled=True).exists():
            # It may have come to be after this transaction has looked for it, and then lacks its tasks.
            recount_backlog([(tenant_id, name)])
        if counted.get().queued > limit:
            raise QueuedLimit(name, limit)


def _raise_counter(tenant_id: int, queue: str, limit: int | None) -> None:
    ceiling = 2**31 - 1 if limit is None else limit
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE backlog SET queued = queued + 1"
            " WHERE tenant_id = %s AND queue = %s AND queued < %s AND (settled OR %s)",
            [tenant_id, queue, ceiling, limit is None],
        )
        if cursor.rowcount or limit is None:
            return
    counters = Backlog.objects.filter(tenant_id=tenant_id, queue=queue)
    if counters.filter(settled=True).exists():
        raise QueuedLimit(queue, limit)
    # One of the first submissions since the limit was set: count. This task's own row in line is
    # among what is counted, so it must not be added again.
    recount_backlog([(tenant_id, queue)])
    if counters.get().queued > limit:
        raise QueuedLimit(queue, limit)


def _take_token(tenant_id: int, rate: float) -> None:
    """Take one token of a bucket that refills at ``rate`` a second and holds one second's worth."""
    burst = max(1.0, rate)
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO backlog (tenant_id, queue, queued, submit_tokens, refilled_at)"
            " VALUES (%s, 'rate', 0, %s, clock_timestamp()) ON CONFLICT DO NOTHING",
            [tenant_id, burst],
        )
        cursor.execute(
            """
            UPDATE backlog
               SET submit_tokens = least(%(burst)s, submit_tokens + %(rate)s * greatest(
                     0, extract(epoch FROM clock_timestamp() - refilled_at))) - 1,
                   refilled_at = clock_timestamp()
             WHERE tenant_id = %(tenant)s AND queue = 'rate'
               AND least(%(burst)s, submit_tokens + %(rate)s * greatest(
                     0, extract(epoch FROM clock_timestamp() - refilled_at))) >= 1
            """,
            {"burst": burst, "rate": rate, "tenant": tenant_id},
        )
        if cursor.rowcount:
            return
        cursor.execute(
            "SELECT greatest(0, 1 - submit_tokens - %s * extract("
            "epoch FROM clock_timestamp() - refilled_at)) FROM backlog"
            " WHERE tenant_id = %s AND queue = 'rate'",
            [rate, tenant_id],
        )
        row = cursor.fetchone()
    missing = float(row[0]) if row else 1.0
    raise SubmitRate(rate, max(0.05, missing / rate) if rate else 60.0)
