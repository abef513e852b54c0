"""Every error becomes ``application/problem+json`` (RFC 9457); no input becomes a 500.

``as_problem`` knows each exception that a view, DRF, Django or the database may raise for reasons
that are not a bug; what it does not know is a bug and goes on to Django's handler for 500.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import structlog
from django.core.exceptions import BadRequest as DjangoBadRequest
from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.db.utils import DataError
from django.http import Http404, HttpResponse
from rest_framework import exceptions
from rest_framework.response import Response

from rest import errors
from rest.database_errors import is_outage, outage_problem
from rest.pointers import field_errors
from rest.rendering import PROBLEM
from rest.request_id import HEADER, choose_for, request_id_of

log = structlog.get_logger(__name__)


def as_problem(exception: BaseException) -> errors.Problem | None:
    """Return the problem that a client is told for this exception; ``None`` for a bug of ours."""
    if isinstance(exception, errors.Problem):
        return exception
    if is_outage(exception):
        log.warning("database_outage", error=str(exception))
        return outage_problem(exception)
    if isinstance(exception, Http404):
        return errors.NotFound()
    if isinstance(exception, PermissionDenied):
        return errors.Forbidden()
    if isinstance(exception, exceptions.APIException):
        return _from_rest_framework(exception)
    if isinstance(exception, RequestDataTooBig):
        return errors.TooLarge()
    if isinstance(exception, SuspiciousOperation | DjangoBadRequest):
        return errors.BadRequest()
    if isinstance(exception, DataError):
        # A value that the column cannot hold. The fields should have refused it: say so in the log.
        log.error("value_reached_the_database", exc_info=exception)
        return errors.BadRequest("A value is out of range.")
    return None


def _from_rest_framework(exception: exceptions.APIException) -> errors.Problem | None:
    if isinstance(exception, exceptions.ValidationError):
        return errors.ValidationFailed(errors=field_errors(exception.detail))
    if isinstance(exception, exceptions.ParseError):
        return errors.BadRequest()
    if isinstance(exception, exceptions.NotAuthenticated | exceptions.AuthenticationFailed):
        return errors.Unauthenticated()
    if isinstance(exception, exceptions.PermissionDenied):
        return errors.Forbidden()
    if isinstance(exception, exceptions.NotFound):
        return errors.NotFound()
    if isinstance(exception, exceptions.MethodNotAllowed):
        return errors.MethodNotAllowed()
    if isinstance(exception, exceptions.NotAcceptable):
        return errors.NotAcceptable()
    if isinstance(exception, exceptions.UnsupportedMediaType):
        return errors.UnsupportedMedia()
    if isinstance(exception, exceptions.Throttled):
        return errors.TooManyRequests(retry_after=getattr(exception, "wait", None) or 1)
    return None


def problem_body(problem: errors.Problem, request_id: str) -> dict[str, Any]:
    """Return the members of the problem document."""
    body: dict[str, Any] = {
        "type": f"urn:switchyard:problem:{problem.code}",
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
        "code": problem.code,
        "instance": request_id,
    }
    if problem.errors:
        body["errors"] = [
            {"pointer": error.pointer, "code": error.code, "detail": error.detail}
            for error in problem.errors
        ]
    return {**body, **{name: value for name, value in problem.extra.items() if name not in body}}


def exception_handler(exception: Exception, context: Mapping[str, Any]) -> Response | None:
    """DRF's hook: answer what is not a bug of ours, leave the rest to Django."""
    problem = as_problem(exception)
    if problem is None:
        return None
    body = problem_body(problem, request_id_of(context.get("request")))
    return Response(body, status=problem.status, headers=problem.headers, content_type=PROBLEM)


def problem_response(problem: errors.Problem, request: object) -> HttpResponse:
    """The same answer for plain Django views (async ones, middleware, error handlers)."""
    return _response(problem, request_id_of(request))


def early_response(problem: errors.Problem, scope: Mapping[str, Any]) -> HttpResponse:
    """The same answer where no request could be made of an ASGI scope, so that no middleware helps."""
    request_id = choose_for(scope)
    log.info("refused_early", path=scope["path"], code=problem.code, request_id=request_id)
    response = _response(problem, request_id)
    response[HEADER] = request_id
    return response


def _response(problem: errors.Problem, request_id: str) -> HttpResponse:
    body = problem_body(problem, request_id)
    return HttpResponse(
        json.dumps(body, ensure_ascii=False, separators=(",", ":"), default=str),
        status=problem.status,
        headers=problem.headers,
        content_type=PROBLEM,
    )
