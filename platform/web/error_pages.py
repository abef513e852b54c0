"""Errors as pages in our own style; programs still get problem+json from ``rest.pages``.

``config.urls`` names the four handlers. Rendering them asks neither the session nor the database, so
that they also work when those are what is broken.
"""

from __future__ import annotations

import sys

from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string

from rest import errors
from rest.pages import PROGRAMS, CSRFFailed, answer
from rest.problems import as_problem, problem_response
from rest.request_id import request_id_of

WORDS = {
    400: "That request does not make sense",
    401: "You are not logged in",
    403: "You may not do this",
    404: "Nothing stops here",
    409: "That is not possible now",
    413: "That is too large",
    429: "Too many requests",
    500: "Something went wrong on our side",
    503: "Out of service for a moment",
}


def problem_page(request: HttpRequest, problem: errors.Problem) -> HttpResponse:
    """Return the page for a problem.

    A page's own request (htmx) gets the problem as JSON: it swaps in no error pages, and shows the
    words of the problem as a notice (``notice.js``).
    """
    if request.path.startswith(PROGRAMS):
        return answer(request, problem)
    if request.headers.get("HX-Request"):
        return problem_response(problem, request)
    page = render_to_string(
        "web/error.html",
        {
            "status": problem.status,
            "heading": WORDS.get(problem.status, problem.title),
            "detail": problem.detail,
            "errors": problem.errors,
            "request_id": request_id_of(request),
            "path": request.path,
        },
    )
    return HttpResponse(page, status=problem.status, headers=problem.headers)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """``handler400``."""
    return problem_page(request, as_problem(exception) or errors.BadRequest())


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    """``handler403``."""
    return problem_page(request, as_problem(exception) or errors.Forbidden())


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """``handler404``."""
    return problem_page(request, errors.NotFound())


def server_error(request: HttpRequest) -> HttpResponse:
    """``handler500``: 503 when it was the database, else nothing of the error's insides."""
    exception = sys.exc_info()[1]
    known = as_problem(exception) if exception is not None else None
    return problem_page(request, known or errors.Problem())


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """``CSRF_FAILURE_VIEW``."""
    return problem_page(request, CSRFFailed())
