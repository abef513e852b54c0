"""Errors outside views (unknown addresses, CSRF, bugs): JSON for programs, else a plain page.

``config.urls`` names these as ``handler400``, ``handler403``, ``handler404`` and ``handler500``.
The page needs no template and no database, so it also works when everything else does not.
"""

from __future__ import annotations

import sys

from django.http import HttpRequest, HttpResponse
from django.utils.html import escape

from rest import errors
from rest.problems import as_problem, problem_response
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


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """``handler400``: suspicious input outside a view (a wrong host, too many fields)."""
    return answer(request, as_problem(exception) or errors.BadRequest())


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    """``handler403``."""
    return answer(request, as_problem(exception) or errors.Forbidden())


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """``handler404``: an unknown address looks like an unknown thing."""
    return answer(request, errors.NotFound())


def server_error(request: HttpRequest) -> HttpResponse:
    """``handler500``: 503 when it was the database, else an error without any of its insides."""
    exception = sys.exc_info()[1]
    known = as_problem(exception) if exception is not None else None
    return answer(request, known or errors.Problem())
