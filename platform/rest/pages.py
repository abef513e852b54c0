"""Errors outside views (unknown addresses, CSRF, bugs): JSON for programs, else a plain page.

The page needs no template and no database, so it also works when everything else does not. What
people usually see instead are the pages of ``web.error_pages``, which also hold Django's handlers.
"""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.utils.html import escape

from rest import errors
from rest.problems import problem_response
from rest.request_id import request_id_of

PROGRAMS = ("/api/", "/ws/", "/health/", "/metrics")


class CSRFFailed(errors.Forbidden):
    """A session's request came without the token that proves it is from our own page."""

    code = "csrf_failed"
    title = "CSRF check failed"
    default_detail = (
        "A session must send the CSRF token (the header X-CSRFToken). Load the page again, or use "
        "an API token."
    )


def answer(request: HttpRequest, problem: errors.Problem) -> HttpResponse:
    """Answer with problem+json for programs and with a plain page for people."""
    if request.path.startswith(PROGRAMS) or "text/html" not in request.headers.get("Accept", ""):
        return problem_response(problem, request)
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(problem.title)}'
        f"</title><h1>{escape(problem.title)}</h1><p>{escape(problem.detail)}</p>"
        f'<p>Request {escape(request_id_of(request))}</p><p><a href="/">Switchyard</a></p></html>'
    )
    return HttpResponse(page, status=problem.status, headers=problem.headers)
