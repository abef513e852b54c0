"""What would become of a submission now: the answer to ``dry_run``."""

from __future__ import annotations

from typing import Any

from django.db import connection

from rest.times import rfc3339
from tasks.clock import database_now
from tasks.models import Inflight
from tasks.selectors.ability import newest_version, no_worker_detail
from tasks.selectors.waiting import LEADER_SILENCE_SECONDS, MAX_POSITION, line_detail
from tasks.services.submit import Verdict
from tasks.submission import Submission
from tenants.models import Tenant
from tenants.selectors import limits_for

LINE = f"""
SELECT (SELECT count(*) FROM (
          SELECT 1 FROM ready
           WHERE tenant_id = %(tenant)s AND queue = %(queue)s AND rank <= %(rank)s
           LIMIT %(cap)s) before),
       {newest_version("%(queue)s", "%(type)s::text")},
       EXISTS (SELECT 1 FROM leader
                WHERE renewed_at > now() - make_interval(secs => %(silence)s))
"""  # noqa: S608 - our own text


def forecast(tenant: Tenant, submission: Submission, verdict: Verdict) -> dict[str, Any]:
    """Return ``{"accepted", "would", "waiting_for", "position", "estimated_start"}``.

    ``estimated_start`` is the time asked for, or now when nothing is in the way, else null: how long
    the tasks before it will take is not known.
    """
    now = database_now()
    if verdict.waiting_for is not None:
        detail = {
            "inputs": "It waits for its inputs to be uploaded.",
            "schedule": f"It starts at {rfc3339(submission.scheduled_for)}.",
            "parents": "It waits for the tasks that it depends on.",
        }[verdict.waiting_for]
        start = submission.scheduled_for if verdict.waiting_for == "schedule" else None
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
    if (newest or 0) < verdict.type_version:
        detail = no_worker_detail(verdict.queue, submission.type, verdict.type_version, newest)
        return _told("wait", "no_worker", detail, position, None)
    if not has_leader:
        detail = "No dispatcher is running at the moment."
        return _told("wait", "dispatch", detail, position, None)
    full = _full(tenant, verdict.queue)
    if full:
        return _told("wait", "quota", full, position, None)
    if position:
        detail = line_detail(position, tenant.slug, verdict.queue)
        return _told("wait", "dispatch", detail, position, None)
    return {
        "accepted": True,
        "would": "start",
        "waiting_for": None,
        "position": 0,
        "estimated_start": rfc3339(now),
    }


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
