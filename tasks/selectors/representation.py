"""Tasks, runs, task types and files as the API shows them: plain dicts, ready for JSON.

Lists are made in a fixed number of queries whatever their length.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from django.conf import settings
from django.db import connection
from django.db.models import prefetch_related_objects

from rest.links import site
from rest.times import rfc3339
from tasks.clock import database_now
from tasks.models import Run, Task, TaskFile, TaskType
from tasks.selectors.waiting import waiting_at, waiting_for, waiting_for_many
from tasks.states import RunStatus

MAX_DEPENDENTS = 200
"""A task names at most this many of those that wait for it; the list has the filter ``parent``."""

RELATED = """
SELECT a.id,
       ARRAY(SELECT parent_id FROM dependency WHERE child_id = a.id ORDER BY parent_id),
       ARRAY(SELECT child_id FROM dependency WHERE parent_id = a.id ORDER BY child_id LIMIT %s),
       now()
  FROM unnest(%s::uuid[]) AS a(id)
"""


class Related(NamedTuple):
    """The ids of a task's parents and of its children, and when they were asked for."""

    parents: list[uuid.UUID]
    children: list[uuid.UUID]
    at: datetime


def task_json(task: Task, *, operator: bool = False, detail: bool = False) -> dict[str, Any]:
    """Return one task as the API shows it.

    ``detail`` adds ``runs``, ``dependencies`` (id, type and status of the parents) and the options
    it was submitted with; ``operator`` adds worker and pid to its runs.
    """
    shown = tasks_json([task])[0]
    if detail:
        shown.update(_options(task))
        shown["dependencies"] = [
            {"id": str(row["id"]), "type": row["type"], "status": row["status"]}
            for row in Task.objects.filter(dependents__child=task)
            .order_by("ordinal")
            .values("id", "type", "status")
        ]
        shown["runs"] = _runs(task, shown, operator=operator)
    return shown


def new_task_json(task: Task, parents: Collection[uuid.UUID], place: Any = None) -> dict[str, Any]:
    """Return a task that was just stored: nobody waits for it yet.

    ``place`` is the answer to :func:`tasks.selectors.waiting.places_of`; without it, it is asked.
    """
    waiting = waiting_for(task) if place is None else waiting_at(task, place)
    return _task(task, waiting, Related(sorted(parents), [], task.created_at))


def tasks_json(
    tasks: Sequence[Task], *, operator: bool = False, runs: bool = False
) -> list[dict[str, Any]]:
    """Return many tasks; ``runs`` adds their runs, ``operator`` worker and pid to those."""
    prefetch_related_objects(list(tasks), "tenant", *(("runs",) if runs else ()))
    waiting = waiting_for_many(tasks)
    related = _related(tasks)
    shown = [_task(task, waiting[task.pk], related[task.pk]) for task in tasks]
    if runs:
        for row, task in zip(shown, tasks, strict=True):
            row["runs"] = _runs(task, row, operator=operator)
    return shown


def result_expired(task: Task, now: datetime | None = None) -> bool:
    """Whether the task had a result that was kept long enough, at ``now`` or by the database's clock.

    The rows are emptied every few minutes (:mod:`tasks.services.retention`); who reads a task is not
    shown what should be gone, whenever that was last done.
    """
    if task.result is None or task.finished_at is None:
        return bool(task.result_expired)
    age = ((now or database_now()) - task.finished_at).total_seconds()
    return age > float(settings.SWITCHYARD.result_retention)


def run_json(
    run: Run, *, task: Task | None = None, operator: bool = False, expired: bool = False
) -> dict[str, Any]:
    """Return one run; where it was executed is for operators only.

    ``expired`` is :func:`result_expired` of its task.
    """
    # A live run's progress is written on the task alone, so that reporting it costs one row.
    source = (task or run.task) if run.status == RunStatus.RUNNING else run
    shown: dict[str, Any] = {
        "id": str(run.pk),
        "task": str(run.task_id),
        "attempt": run.attempt,
        "status": run.status,
        "started_at": rfc3339(run.started_at),
        "finished_at": rfc3339(run.finished_at),
        "progress": _progress(source.progress_percent, source.progress_step),
        "exit_code": run.exit_code,
        "signal": run.signal,
        "error": run.error,
        "result": None if expired else run.result,
        "resources": {
            "cpu_seconds": run.cpu_seconds,
            "max_rss_bytes": run.max_rss_bytes,
            "wall_seconds": run.wall_seconds,
        },
        "log": {"bytes": run.log_bytes, "lines": run.log_lines, "truncated": run.log_truncated},
    }
    if operator:
        shown["worker"] = str(run.worker) if run.worker else None
        shown["pid"] = run.pid
        shown["machine"] = run.machine
        shown["isolation"] = run.isolation
    return shown


def type_json(task_type: TaskType) -> dict[str, Any]:
    """Return a task type: what it takes, and how its tasks are treated."""
    return {
        "name": task_type.name,
        "title": task_type.title,
        "description": task_type.description,
        "version": task_type.version,
        "queue": task_type.queue,
        "params_schema": task_type.params_schema,
        "cancellable": task_type.cancellable,
        "idempotent": task_type.idempotent,
        "preemptible": task_type.preemptible,
        "network": task_type.network,
        "time_limit": task_type.time_limit,
        "max_retries": task_type.max_retries,
        "retry": task_type.retry,
        "limits": task_type.limits,
        "secrets": task_type.secrets,
        "needs": task_type.needs,
    }


def file_json(file: TaskFile) -> dict[str, Any]:
    """Return a file; of an artifact ``run`` is the attempt that left it, ``links.self`` its bytes."""
    shown: dict[str, Any] = {
        "name": file.name,
        "size": file.size,
        "sha256": file.sha256,
        "media_type": file.media_type,
        "created_at": rfc3339(file.created_at),
    }
    if file.run is None:
        return shown
    address = f"{task_links(file.task.tenant.slug, file.task_id)['self']}/artifacts/{file.pk}"
    return {"id": str(file.pk), "run": file.run, **shown, "links": {"self": address}}


def task_links(slug: str, task_id: uuid.UUID) -> dict[str, str]:
    """Return the absolute addresses of a task."""
    base = site()
    parts = urlsplit(base)
    sockets = f"{'wss' if parts.scheme == 'https' else 'ws'}://{parts.netloc}{parts.path}"
    path = f"tenants/{slug}/tasks/{task_id}"
    return {
        "self": f"{base}/api/v1/{path}",
        "events": f"{base}/api/v1/{path}/events",
        "log": f"{base}/api/v1/{path}/log",
        "websocket": f"{sockets}/ws/v1/{path}",
        "html": f"{base}/t/{slug}/tasks/{task_id}",
    }


def _runs(task: Task, shown: dict[str, Any], *, operator: bool) -> list[dict[str, Any]]:
    expired = shown["result_expired"]
    return [run_json(run, task=task, operator=operator, expired=expired) for run in task.runs.all()]


def _task(task: Task, waiting: dict[str, Any] | None, related: Related) -> dict[str, Any]:
    expired = result_expired(task, related.at)
    return {
        "id": str(task.pk),
        "tenant": task.tenant.slug,
        "type": task.type,
        "queue": task.queue,
        "priority": task.priority,
        "status": task.status,
        "status_reason": task.status_reason,
        "waiting_for": waiting,
        "progress": _progress(task.progress_percent, task.progress_step),
        "params": task.params,
        "labels": task.labels,
        "key": task.key,
        "depends_on": [str(parent) for parent in related.parents],
        "dependents": [str(child) for child in related.children],
        "submitted_by": task.submitted_by or None,
        "schedule": str(task.schedule_id) if task.schedule_id else None,
        "cancel_requested": _cancel_requested(task),
        "consumed": task.consumed_at is not None,
        "attempt": task.attempt,
        "max_retries": task.max_retries,
        "counts": {
            "failures": task.failures,
            "losses": task.losses,
            "restarts": task.restarts,
            "preemptions": task.preemptions,
        },
        "result": None if expired else task.result,
        "result_expired": expired,
        "error": task.error,
        "created_at": rfc3339(task.created_at),
        "scheduled_for": rfc3339(task.scheduled_for),
        "queued_at": rfc3339(task.queued_at),
        "started_at": rfc3339(task.started_at),
        "finished_at": rfc3339(task.finished_at),
        "next_retry_at": rfc3339(task.next_retry_at),
        "deadline_at": rfc3339(task.deadline_at),
        "last_seq": task.last_seq,
        "links": task_links(task.tenant.slug, task.pk),
    }


def _options(task: Task) -> dict[str, Any]:
    return {
        "key_policy": task.key_policy,
        "on_parent_failure": task.on_parent_failure,
        "idempotent": task.idempotent,
        "preemptible": task.preemptible,
        "retry": task.retry,
        "time_limit": task.time_limit,
        "queue_timeout": task.queue_timeout,
        "limits": task.limits,
        "inputs": task.inputs,
        "secrets": task.secrets,
    }


def _cancel_requested(task: Task) -> dict[str, Any] | None:
    if task.cancel_requested_at is None:
        return None
    return {
        "at": rfc3339(task.cancel_requested_at),
        "by": task.cancel_requested_by,
        "reason": task.cancel_reason or None,
    }


def _progress(percent: float, step: str) -> dict[str, Any]:
    return {"percent": int(percent) if percent == int(percent) else percent, "step": step}


def _related(tasks: Sequence[Task]) -> dict[uuid.UUID, Related]:
    if not tasks:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(RELATED, [MAX_DEPENDENTS, [task.pk for task in tasks]])
        return {row[0]: Related(*row[1:]) for row in cursor.fetchall()}
