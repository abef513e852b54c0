"""The page of one task: what it is, why it waits or failed, how far it is, and its log, live."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse, JsonResponse
from django.views.decorators.http import require_safe

from rest.errors import ValidationFailed
from rest.links import site
from tasks.models import Task, TaskType
from tasks.selectors.representation import result_expired
from tasks.selectors.tasks import visible_task
from tasks.selectors.waiting import waiting_for
from tasks.states import RunStatus, Status, is_terminal
from web.access import Visit, member_page
from web.equal_calls import command_submit, curl_read, curl_submit
from web.files import files_of
from web.log_pages import last_lines, page_before, place_of, tail_start
from web.timeline import runs_of, timeline

MAX_NUMBER = 2**62


@require_safe
@member_page("tasks:read")
def task_page(visit: Visit, task_id: str) -> HttpResponse:
    """Show the task. The log is not in the page: it comes with the live stream, or from the API."""
    task = visible_task(visit.actor, visit.tenant, task_id)
    after, older = tail_start(task)
    base = site()
    body = _body(task)
    context = {
        **_state(visit, task),
        "log_after": after,
        "log_older": older,
        "parents": Task.objects.filter(dependents__child=task).order_by("ordinal"),
        "children": Task.objects.filter(dependencies__parent=task).order_by("ordinal")[:50],
        "command": command_submit(body),
        "curl": curl_submit(base, task.tenant.slug, body),
        "curl_read": curl_read(base, task.tenant.slug, str(task.pk)),
    }
    return visit.render("web/tasks/page.html", context)


@require_safe
@member_page("tasks:read")
def task_state(visit: Visit, task_id: str) -> HttpResponse:
    """Return the parts of the page that a state change changes, for an out-of-band swap."""
    return visit.render(
        "web/tasks/state.html", _state(visit, visible_task(visit.actor, visit.tenant, task_id))
    )


@require_safe
@member_page("tasks:read")
def older_log(visit: Visit, task_id: str) -> HttpResponse:
    """Return, as JSON, the page of log frames before the event ``before``."""
    task = visible_task(visit.actor, visit.tenant, task_id)
    page = page_before(task, _number(visit, "before"))
    return JsonResponse({"frames": page.frames, "after": page.after, "more": page.more})


@require_safe
@member_page("tasks:read")
def log_place(visit: Visit, task_id: str) -> HttpResponse:
    """Return, as JSON, where the stream must begin to hold line ``line`` of run ``run``."""
    task = visible_task(visit.actor, visit.tenant, task_id)
    seq = place_of(task, _number(visit, "run"), _number(visit, "line"))
    return JsonResponse({"after": None if seq is None else seq - 1})


def _number(visit: Visit, name: str) -> int:
    text = visit.request.GET.get(name, "")
    # The length first: thousands of digits are more than int() reads.
    if not (len(text) <= 19 and text.isascii() and text.isdigit() and int(text) <= MAX_NUMBER):
        raise ValidationFailed.at(f"query:{name}", "invalid", "Give a whole number.")
    return int(text)


def _state(visit: Visit, task: Task) -> dict[str, Any]:
    runs = runs_of(task)
    task_type = TaskType.objects.filter(name=task.type).first()
    running = task.status == Status.RUNNING
    may_change = visit.may_change(task)
    unhappy = task.status in (Status.FAILED, Status.DROPPED, Status.RETRY_WAIT)
    return {
        "task": task,
        "runs": runs,
        "run": runs[0] if runs else None,
        "result_expired": result_expired(task),
        "waiting": waiting_for(task),
        "moments": timeline(task),
        "files": files_of(task),
        "tail": last_lines(task) if unhappy and task.error else [],
        "unhappy": unhappy,
        "task_type": task_type,
        "shows_progress": running or any(run.status == RunStatus.RUNNING for run in runs),
        "may_cancel": may_change and not is_terminal(task.status),
        "may_retry": may_change and task.status in (Status.FAILED, Status.DROPPED, Status.CANCELLED),
        "stoppable": not running or task_type is None or task_type.cancellable,
    }


def _body(task: Task) -> dict[str, Any]:
    """Return the request that would submit this task again, without what the type says anyway."""
    body: dict[str, Any] = {"type": task.type, "params": task.params, "queue": task.queue}
    for name in ("priority", "labels", "key", "inputs"):
        if getattr(task, name):
            body[name] = getattr(task, name)
    return body
