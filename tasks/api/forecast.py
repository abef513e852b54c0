"""What would become of a submission now: the answer to ``dry_run``."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.db import connection
from django.db.models import Q

from rest.times import rfc3339
from tasks.clock import database_now
from tasks.models import Inflight, Pause
from tasks.selectors.ability import LIVE, newest_version, no_worker_detail
from tasks.selectors.off_peak import Held, held
from tasks.selectors.routes import estimated_seconds
from tasks.selectors.waiting import LEADER_SILENCE_SECONDS, MAX_POSITION, line_detail
from tasks.services.keys import active_with, slots_of
from tasks.services.submit import Verdict
from tasks.states import Status
from tasks.submission import Submission
from tenants.limits import WINDOWED
from tenants.models import Tenant
from tenants.selectors import limits_for

UNKNOWN_SECONDS = 1.0
"""What a task of a type is taken to last that nobody has run yet."""

LINE = f"""
SELECT (SELECT count(*) FROM (
          SELECT 1 FROM ready
           WHERE tenant_id = %(tenant)s AND queue = %(queue)s AND rank <= %(rank)s
           LIMIT %(cap)s) before),
       {newest_version("%(queue)s", "%(type)s::text")},
       EXISTS (SELECT 1 FROM leader
                WHERE renewed_at > now() - make_interval(secs => %(silence)s))
"""  # noqa: S608 - our own text

# How many tasks its lane runs now. Where it runs none, as many are assumed as the pool has slots for.
PACE = f"""
SELECT (SELECT count(*) FROM inflight WHERE tenant_id = %(tenant)s AND queue = %(queue)s),
       (SELECT sum(slots) FROM worker w WHERE {LIVE} AND w.queue = %(queue)s)
"""  # noqa: S608 - our own text


def forecast(tenant: Tenant, submission: Submission, verdict: Verdict) -> dict[str, Any]:
    """Return ``{"accepted", "would", "waiting_for", "position", "estimated_start"}``.

    ``estimated_start`` is the time asked for, now when nothing is in the way, or about when those
    before it in its lane have been through, at the pace of the tenant's last tasks of the type; not
    before its off-peak windows open. It is null where nobody knows: while the lane is paused, has no
    worker, or waits for other tasks; and for a task that would be cancelled because of one of those.
    """
    now = database_now()
    if verdict.culprit is not None:
        parent = verdict.culprit
        ended = f"the task {parent.id}, on which it depends, ended as {parent.status}"
        detail = f"It would be cancelled at once: {ended}."
        return _told("wait", "parents", detail, None, None)
    if verdict.waiting_for is not None:
        detail = {
            "inputs": "It waits for its inputs to be uploaded.",
            "schedule": f"It starts at {rfc3339(submission.scheduled_for)}.",
            "parents": "It waits for the tasks that it depends on.",
        }[verdict.waiting_for]
        start = submission.scheduled_for if verdict.waiting_for == "schedule" else None
        if start is not None and (later := _held(tenant, verdict, start)) is not None:
            start = later.until
        return _told("wait", verdict.waiting_for, detail, None, rfc3339(start))
    with connection.cursor() as cursor:
        cursor.execute(
            LINE,
            {
                "tenant": tenant.pk,
                "queue": verdict.queue,
                "rank": -submission.priority,
                "cap": MAX_POSITION,
                "type": submission.type,
                "silence": LEADER_SILENCE_SECONDS,
            },
        )
        position, newest, has_leader = cursor.fetchone() or (0, None, False)
    paused = _paused(tenant, verdict.queue, submission.type)
    if paused:
        return _told("wait", "paused", paused, position, None)
    off_peak = _held(tenant, verdict, now)
    if off_peak is not None:
        opens = off_peak.until
        if opens is not None and position:
            opens += _until(tenant, verdict, position)
        return _told("wait", "off_peak", off_peak.detail, position, rfc3339(opens))
    version = verdict.task_type.version
    if (newest or 0) < version:
        detail = no_worker_detail(verdict.queue, submission.type, version, newest)
        return _told("wait", "no_worker", detail, position, None)
    if not has_leader:
        detail = "No dispatcher is running at the moment."
        return _told("wait", "dispatch", detail, position, None)
    holder, before = _key_taken(tenant, submission)
    if holder:
        return _told("wait", "key", holder, before, None)
    full = _full(tenant, verdict.queue)
    if full or position:
        about = rfc3339(now + _until(tenant, verdict, position))
        if full:
            return _told("wait", "quota", full, position, about)
        detail = line_detail(position, tenant.slug, verdict.queue)
        return _told("wait", "dispatch", detail, position, about)
    return {
        "accepted": True,
        "would": "start",
        "waiting_for": None,
        "position": 0,
        "estimated_start": rfc3339(now),
    }


def _held(tenant: Tenant, verdict: Verdict, at: datetime) -> Held | None:
    """Return what off-peak windows hold the task at a time, or None."""
    if verdict.queue != WINDOWED:
        return None
    of_tenant = limits_for(tenant)["queues"][WINDOWED]["windows"]
    return held(tenant.slug, verdict.task_type.name, of_tenant, verdict.task_type.windows, at)


def _until(tenant: Tenant, verdict: Verdict, position: int) -> timedelta:
    """Return in about how long a task would start that has ``position`` others before it."""
    took = estimated_seconds(verdict.task_type.pk, tenant.pk)
    with connection.cursor() as cursor:
        cursor.execute(PACE, {"tenant": tenant.pk, "queue": verdict.queue})
        running, slots = cursor.fetchone() or (0, None)
    seconds = UNKNOWN_SECONDS if took is None else took
    return timedelta(seconds=(position + 1) * seconds / max(1, running or slots or 1))


def _paused(tenant: Tenant, queue: str, type_name: str) -> str:
    """Return the sentence about what an operator has paused, or ""."""
    found = Pause.objects.filter(Q(subject="queue", name=queue) | Q(subject="type", name=type_name))
    pause = found.order_by("subject").first()
    if pause is not None:
        what = "queue" if pause.subject == "queue" else "task type"
        return f"The {what} {pause.name} is paused by an operator."
    return f"The tenant {tenant.slug} is paused by an operator." if tenant.paused else ""


def _key_taken(tenant: Tenant, submission: Submission) -> tuple[str, int]:
    """Return the sentence about who has the key, or "", and how many wait for it already.

    What only waits would be replaced; what runs keeps the key until it has ended.
    """
    if submission.key is None:
        return "", 0
    active = active_with(tenant.pk, submission.key)
    if submission.key_policy == "replace":
        active = [task for task in active if task.status == Status.RUNNING]
    allowed = slots_of(tenant.pk)
    if len(active) < allowed:
        return "", 0
    if not active:
        return "No task of this tenant may run with a key: `running_per_key` is 0.", 0
    return f"Task {active[0].pk} has the key {submission.key}.", len(active) - allowed


def _full(tenant: Tenant, queue: str) -> str:
    """Return the sentence about the running limit that is reached, or ""."""
    limits = limits_for(tenant)
    for limit, rows, what in (
        (limits["queues"][queue]["running"], {"queue": queue}, f"{queue} tasks"),
        (limits["running"], {}, "tasks"),
    ):
        if limit is None:
            continue
        running = Inflight.objects.filter(tenant_id=tenant.pk, **rows).count()
        if running >= limit:
            return f"{tenant.slug} runs {running} of {limit} {what}."
    return ""


def _told(
    would: str, reason: str, detail: str, position: int | None, start: str | None
) -> dict[str, Any]:
    return {
        "accepted": True,
        "would": would,
        "waiting_for": {"reason": reason, "detail": detail, "position": position},
        "position": position,
        "estimated_start": start,
    }
