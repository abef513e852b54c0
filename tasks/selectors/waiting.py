"""Why a task is not running, and how many are before it: from the rows that decide it.

A *queued* task is in one of three places: ``inflight`` (dispatched, no worker has claimed it yet),
``parked`` (cannot start whatever its lane's turn; the row says why) or ``ready`` (its lane's
snapshot, which the dispatcher writes at most once a second, says what holds the lane). The other
waiting states explain themselves.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from rest.statements import Statement, ask
from rest.times import rfc3339
from tasks.models import Task
from tasks.selectors.ability import newest_version, no_worker_detail
from tasks.selectors.files import missing_inputs_of_many
from tasks.selectors.off_peak import Held, held
from tasks.states import Status
from tenants.limits import WINDOWED

MAX_POSITION = 10_000
"""Nobody counts further: a task behind that many others says that many."""

LEADER_SILENCE_SECONDS = 10
"""A dispatcher that has not renewed its leadership for this long counts as gone."""

# Positions are counted in one pass over the front of each lane, from one task asked for to the next.
PLACES = Statement(f"""
WITH asked AS MATERIALIZED (
  SELECT * FROM json_to_recordset(%(asked)s::json)
             AS a(id uuid, tenant_id bigint, queue text, type text, status text)
), line AS MATERIALIZED (
  SELECT place.id, place.before
    FROM (SELECT tenant_id, queue, array_agg(id) AS ids FROM asked WHERE status = 'queued'
           GROUP BY tenant_id, queue) lane
   CROSS JOIN LATERAL places_in_line(lane.queue, lane.tenant_id, lane.ids, {MAX_POSITION}) place
)
SELECT json_agg(json_build_array(
       a.id, i.task_id IS NOT NULL, p.reason, line.id IS NOT NULL,
       coalesce(line.before, {MAX_POSITION}), coalesce(l.waiting_for, ''), coalesce(l.detail, ''),
       {newest_version("a.queue", "a.type")},
       EXISTS (SELECT 1 FROM leader
                WHERE renewed_at > now() - make_interval(secs => {LEADER_SILENCE_SECONDS})),
       CASE WHEN a.status = 'blocked' THEN
         (SELECT count(*) FROM dependency d JOIN task parent ON parent.id = d.parent_id
           WHERE d.child_id = a.id AND parent.finished_at IS NULL) END,
       CASE WHEN EXISTS (SELECT 1 FROM pause WHERE subject = 'queue' AND name = a.queue) THEN 'queue'
            WHEN EXISTS (SELECT 1 FROM pause WHERE subject = 'type' AND name = a.type) THEN 'type'
            WHEN (SELECT paused FROM tenants_tenant WHERE id = a.tenant_id) THEN 'tenant' END,
       (SELECT h.task_id FROM key_holder h
         WHERE p.key IS NOT NULL AND h.tenant_id = a.tenant_id AND h.key = p.key
         ORDER BY h.slot LIMIT 1),
       CASE WHEN p.key IS NOT NULL THEN
         (SELECT count(*) FROM (SELECT 1 FROM parked q
                                 WHERE q.tenant_id = a.tenant_id AND q.key = p.key
                                   AND (q.rank, q.ordinal) < (p.rank, p.ordinal)
                                 LIMIT {MAX_POSITION}) waiting) END,
       CASE WHEN a.queue = '{WINDOWED}' THEN
         (SELECT windows FROM tenants_limit WHERE tenant_id = a.tenant_id AND queue = a.queue) END,
       CASE WHEN a.queue = '{WINDOWED}' THEN
         (SELECT windows FROM task_type WHERE name = a.type) END,
       statement_timestamp()))
  FROM asked a
  LEFT JOIN inflight i ON i.task_id = a.id
  LEFT JOIN parked p ON p.task_id = a.id
  LEFT JOIN line ON line.id = a.id
  LEFT JOIN lane l ON l.tenant_id = a.tenant_id AND l.queue = a.queue
""")  # noqa: S608 - our own text

DETAILS: Mapping[str, str] = {
    "dispatch": "It is next in line.",
    "back": "Nothing holds it any more; it is being brought back into its line.",
    "quota": "{tenant} runs as many {queue} tasks as it may.",
    "rate": "{tenant} starts tasks as fast as it may.",
    "key": "Another task with the key {key} has not ended yet.",
    "paused": "It is paused by an operator.",
}
"""The sentence for a reason where the dispatcher gave none of its own."""


class Place(NamedTuple):
    """Where a waiting task stands, as the rows of dispatching have it."""

    inflight: bool
    parked: str | None
    ready: bool
    before: int
    lane_reason: str
    lane_detail: str
    newest_version: int | None
    has_leader: bool
    open_parents: int | None
    paused: str | None
    key_holder: str | None
    key_before: int | None
    tenant_windows: Any
    type_windows: Any
    now: str


def waiting_for(task: Task) -> dict[str, Any] | None:
    """Return ``{"reason", "detail", "position"}`` of one task; None if it runs or has ended."""
    return waiting_for_many([task])[task.pk]


def waiting_for_many(tasks: Sequence[Task]) -> dict[uuid.UUID, dict[str, Any] | None]:
    """Return the same for many tasks, by id, with at most two queries.

    ``position`` is the number of tasks before this one in its lane (0 is next, at most
    :data:`MAX_POSITION`) and null for what is not in line. Tasks need their tenant at hand.
    """
    standing = [task for task in tasks if task.status in (Status.QUEUED, Status.BLOCKED)]
    places = _read(ask(places_of(standing))[0]) if standing else {}
    missing = missing_inputs_of_many([task for task in tasks if task.status == Status.ALLOCATED])
    return {
        task.pk: _needs_inputs(missing[task.pk])
        if task.pk in missing
        else _explain(task, places.get(task.pk))
        for task in tasks
    }


def places_of(tasks: Sequence[Task]) -> bytes:
    """Return what asks where queued and blocked tasks stand, for who asks it behind a COMMIT
    (:mod:`rest.statements`); :func:`waiting_at` reads the answer.
    """
    asked = [
        {
            "id": str(task.pk),
            "tenant_id": task.tenant_id,
            "queue": task.queue,
            "type": task.type,
            "status": task.status,
        }
        for task in tasks
    ]
    return PLACES.of({"asked": json.dumps(asked)})


def waiting_at(task: Task, answer: Any) -> dict[str, Any] | None:
    """Return :func:`waiting_for` of a task from an answer to :func:`places_of`."""
    return _explain(task, _read(answer).get(task.pk))


def _read(answer: Any) -> dict[uuid.UUID, Place]:
    return {uuid.UUID(row[0]): Place(*row[1:]) for row in answer or ()}


def _explain(task: Task, place: Place | None) -> dict[str, Any] | None:
    if task.status == Status.SCHEDULED:
        return _because("schedule", f"It starts at {rfc3339(task.scheduled_for)}.")
    if task.status == Status.RETRY_WAIT:
        return _because("retry", f"The next attempt is at {rfc3339(task.next_retry_at)}.")
    if place is None:
        return None
    if task.status == Status.BLOCKED:
        count = place.open_parents or 0
        what = "1 task has" if count == 1 else f"{count} tasks have"
        return _because("parents", f"{what} to end first.")
    return _in_line(task, place)


def _needs_inputs(missing: list[str]) -> dict[str, Any]:
    if missing:
        return _because("inputs", f"Inputs to upload: {', '.join(missing)}.")
    return _because("inputs", "All inputs are there; POST …/submit lets it go.")


def _in_line(task: Task, place: Place) -> dict[str, Any]:
    if place.inflight:
        return _because("dispatch", f"It was handed to the {task.queue} pool.")
    lacking = no_worker_detail(task.queue, task.type, task.type_version, place.newest_version)
    if place.parked == "key" and place.key_before is not None:
        return _for_key(task, place)
    if place.paused:
        subject = {"queue": task.queue, "type": task.type, "tenant": task.tenant.slug}[place.paused]
        what = {"queue": "queue", "type": "task type", "tenant": "tenant"}[place.paused]
        detail = f"The {what} {subject} is paused by an operator."
        return _because("paused", detail, place.before if place.ready else None)
    held = _held(task, place)
    if held is not None:
        return _because("off_peak", held.detail, place.before if place.ready else None)
    able = (place.newest_version or 0) >= task.type_version
    if place.parked in ("paused", "off_peak"):
        # Of many, the dispatcher brings a few thousand back at a time.
        return _because("dispatch", DETAILS["back"])
    if place.parked == "no_worker":
        return _because("no_worker", DETAILS["back"] if able else lacking)
    if place.parked:
        return _because(place.parked, _sentence(place.parked, task))
    position = place.before if place.ready else None
    if not able:
        return _because("no_worker", lacking, position)
    if not place.has_leader:
        return _because("dispatch", "No dispatcher is running at the moment.", position)
    if place.lane_reason and place.lane_reason != "off_peak":
        detail = place.lane_detail or _sentence(place.lane_reason, task)
        return _because(place.lane_reason, detail, position)
    # The dispatcher may have more to tell of the lane's first task.
    detail = place.lane_detail if position == 0 else ""
    detail = detail or line_detail(position or 0, task.tenant.slug, task.queue)
    return _because("dispatch", detail, position)


def _held(task: Task, place: Place) -> Held | None:
    return held(
        task.tenant.slug,
        task.type,
        place.tenant_windows,
        place.type_windows,
        datetime.fromisoformat(place.now),
    )


def _for_key(task: Task, place: Place) -> dict[str, Any]:
    """Explain a task that waits for its key; its position is in the line for the key."""
    if place.key_holder is not None:
        detail = f"Task {place.key_holder} has the key {task.key} until it has ended."
        return _because("key", detail, place.key_before)
    if place.key_before:
        return _because("key", _sentence("key", task), place.key_before)
    # The key is free: the dispatcher lets it in, unless no task of the tenant may have one.
    return _because("key", f"It is the next to get the key {task.key}.", 0)


def line_detail(position: int, tenant: str, queue: str) -> str:
    """Return the sentence for a task that only waits for its turn."""
    if position == 0:
        return DETAILS["dispatch"]
    more = "or more " if position >= MAX_POSITION else ""
    noun = "task is" if position == 1 else "tasks are"
    return f"{position} {more}{queue} {noun} before it in the line of {tenant}."


def _sentence(reason: str, task: Task) -> str:
    return DETAILS.get(reason, "It waits: {reason}.").format(
        tenant=task.tenant.slug, queue=task.queue, key=task.key, type=task.type, reason=reason
    )


def _because(reason: str, detail: str, position: int | None = None) -> dict[str, Any]:
    return {"reason": reason, "detail": detail, "position": position}
