"""Cancel and retry, as the buttons of the task page post them."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_POST

from rest.errors import Problem
from rest.text import TextRefused, clean_text
from tasks.errors import NotYours
from tasks.models import Task
from tasks.selectors.tasks import visible_task
from tasks.services.audited import audited_cancel, audited_retry
from web.access import Visit, member_page

MAX_REASON = 500


@require_POST
@member_page("tasks:write")
def cancel_task(visit: Visit, task_id: str) -> HttpResponse:
    """Cancel the task, or with ``force`` kill its run; then show its page again."""
    task = _changeable(visit, task_id)
    force = bool(visit.request.POST.get("force"))
    if force and not visit.may_force:
        raise NotYours
    try:
        reason = _reason(visit)
        done = audited_cancel(visit.actor, task, reason=reason, force=force)
    except (Problem, TextRefused) as refusal:
        messages.error(visit.request, refusal.detail)
    else:
        messages.success(visit.request, _told(changed=done.changed, task=done.task))
    return _back(visit, task)


@require_POST
@member_page("tasks:write")
def retry_task(visit: Visit, task_id: str) -> HttpResponse:
    """Give the task a new life; then show its page again."""
    task = _changeable(visit, task_id)
    try:
        audited_retry(visit.actor, task)
    except Problem as refusal:
        messages.error(visit.request, refusal.detail)
    else:
        messages.success(visit.request, "The task has a new life: it is in line again.")
    return _back(visit, task)


def _changeable(visit: Visit, task_id: str) -> Task:
    task = visible_task(visit.actor, visit.tenant, task_id)
    if not visit.may_change(task):
        raise NotYours
    return task


def _reason(visit: Visit) -> str:
    text = visit.request.POST.get("reason", "")
    return clean_text(text, max_length=MAX_REASON, lines=True) if text.strip() else ""


def _told(*, changed: bool, task: Task) -> str:
    if task.finished_at is not None:
        return "The task is cancelled; it will not start."
    if changed:
        return "The task was asked to stop. It is killed if it does not within the grace period."
    return "Somebody has asked for this already; the task is stopping."


def _back(visit: Visit, task: Task) -> HttpResponse:
    return redirect("web_task", tenant=visit.tenant.slug, task_id=str(task.pk))
