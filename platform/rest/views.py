"""The base of every API view: strict parameters and bodies, problem+json, sane HEAD and OPTIONS.

A view states what it takes as data, so that tests and the OpenAPI document can read it::

    class Tasks(TenantView):                       # tenants.access, built on this
        required_scopes = {"GET": "tasks:read", "POST": "tasks:write"}
        query_parameters = {"GET": (*PARAMETERS, "status")}
        body = "object"
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import wraps
from typing import Any, ClassVar

from asgiref.sync import sync_to_async
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from rest_framework.request import Request as StockRequest
from rest_framework.response import Response
from rest_framework.views import APIView as StockAPIView

from rest.openapi import AutoSchema
from rest.parameters import Parameters
from rest.parsing import Body, Request
from rest.problems import as_problem, problem_response
from rest.throttling import RequestRate


class APIView(StockAPIView):
    """One address of the API.

    ``query_parameters`` maps a method to the names it takes (HEAD is GET); ``body`` is what
    :class:`rest.parsing.StrictJSONParser` expects; ``media_types`` are the forms of the answer.
    """

    query_parameters: ClassVar[Mapping[str, Collection[str]]] = {}
    body: ClassVar[Body] = "object"
    media_types: ClassVar[tuple[str, ...]] = ("application/json",)
    throttle_classes = [RequestRate]
    schema = AutoSchema()

    request: Request
    parameters: Parameters

    def initialize_request(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Request:
        return Request(
            request,
            parsers=self.get_parsers(),
            authenticators=self.get_authenticators(),
            negotiator=self.get_content_negotiator(),
            parser_context=self.get_parser_context(request),
        )

    def initial(self, request: StockRequest, *args: Any, **kwargs: Any) -> None:
        """Authenticate, check what may be done, then read the parameters."""
        super().initial(request, *args, **kwargs)
        method = "GET" if request.method == "HEAD" else str(request.method)
        if method in self.allowed_methods:
            self.parameters = Parameters.parse(
                request.META.get("QUERY_STRING", ""), self.query_parameters.get(method, ())
            )

    def options(  # type: ignore[override]
        self, request: StockRequest, *args: Any, **kwargs: Any
    ) -> Response:
        """Answer with ``Allow`` alone: what a view takes is in the OpenAPI document."""
        return Response(status=204)


AsyncView = Callable[..., Awaitable[HttpResponseBase]]


def answering_problems(view: AsyncView) -> AsyncView:
    """Let an async Django view (wait, event streams) raise problems as DRF views do."""

    @wraps(view)
    async def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            return await view(request, *args, **kwargs)
        except Exception as exception:
            problem = await sync_to_async(as_problem)(exception)
            if problem is None:
                raise
            return problem_response(problem, request)

    wrapped.csrf_exempt = True  # type: ignore[attr-defined]
    return wrapped
