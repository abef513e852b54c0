"""Submitting a task by a form that is made from the type's JSON Schema."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST

from rest.errors import FieldError, NotFound, Problem
from rest.links import site
from tasks.api.forecast import forecast
from tasks.models import TaskType
from tasks.services.submit import submit, try_submit
from web.access import Visit, member_page
from web.equal_calls import command_submit, curl_submit
from web.submit_form import SubmitForm, empty_form, read_form
from web.views.task_types import known_types


@require_http_methods(["GET", "HEAD", "POST"])
@member_page("tasks:write")
def submit_form(visit: Visit) -> HttpResponse:
    """Show the form of ``?type=``; a POST submits, or with ``action=check`` only says what would be."""
    task_type = _chosen(visit)
    if task_type is None:
        return visit.render("web/submit/page.html", {"types": known_types()})
    if visit.request.method != "POST":
        form = empty_form(task_type, visit.request.GET.dict())
        calls = _calls(visit, read_form(task_type, _typed(form)))
        return visit.render("web/submit/page.html", {"types": known_types(), "form": form, **calls})
    form = read_form(task_type, visit.request.POST.dict())
    if visit.request.POST.get("action") == "check":
        return _again(visit, form, verdict=_verdict(visit, form))
    return _submit(visit, form)


@require_POST
@member_page("tasks:write")
def submit_calls(visit: Visit) -> HttpResponse:
    """Return the command and the curl call that equal what is typed so far."""
    task_type = _chosen(visit)
    if task_type is None:
        raise NotFound
    form = read_form(task_type, visit.request.POST.dict())
    return visit.render("web/submit/calls.html", _calls(visit, form))


def _chosen(visit: Visit) -> TaskType | None:
    name = visit.request.GET.get("type", "")
    if not name or "\x00" in name:
        return None
    found = known_types().filter(name=name).first()
    if found is None:
        raise NotFound("There is no such task type here.")
    return found


def _submit(visit: Visit, form: SubmitForm) -> HttpResponse:
    if form.submission is None:
        return _again(visit, form)
    try:
        task = submit(visit.tenant, visit.actor, form.submission)
    except Problem as refusal:
        _place(form, refusal)
        return _again(visit, form)
    messages.success(visit.request, f"{task.type} was submitted.")
    where = reverse("web_task", args=[visit.tenant.slug, task.pk])
    if visit.request.headers.get("HX-Request"):
        answer = HttpResponse(status=204)
        answer["HX-Redirect"] = where
        return answer
    return redirect(where)


def _verdict(visit: Visit, form: SubmitForm) -> dict[str, Any] | None:
    if form.submission is None:
        return None
    try:
        verdict = try_submit(visit.tenant, visit.actor, form.submission)
        return forecast(visit.tenant, form.submission, verdict)
    except Problem as refusal:
        _place(form, refusal)
        return None


def _place(form: SubmitForm, refusal: Problem) -> None:
    form.place(refusal.errors or [FieldError("", refusal.code, refusal.detail)])


def _again(visit: Visit, form: SubmitForm, *, verdict: Any = None) -> HttpResponse:
    """Show the form as it was typed. htmx swaps only answers of 200, so a refused one is that too."""
    context = {"form": form, "verdict": verdict, **_calls(visit, form)}
    if visit.request.headers.get("HX-Request"):
        return visit.render("web/submit/form.html", context)
    context["types"] = known_types()
    return visit.render("web/submit/page.html", context, status=400 if form.has_errors else 200)


def _typed(form: SubmitForm) -> dict[str, str]:
    """Return what a browser would post for the untouched form."""
    fields = [*form.params, *form.options.values()]
    return {
        item.name: item.value for item in fields if not (item.kind == "boolean" and item.value != "true")
    }


def _calls(visit: Visit, form: SubmitForm) -> dict[str, Any]:
    base = site()
    return {
        "command": command_submit(form.body),
        "curl": curl_submit(base, visit.tenant.slug, form.body),
    }
