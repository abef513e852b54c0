"""``/schema`` and ``/docs``: for callers who are known; the assets come with the package."""

from __future__ import annotations

from typing import Any, ClassVar

from django.http import HttpResponse
from drf_spectacular.views import SpectacularJSONAPIView, SpectacularSwaggerView
from rest_framework.response import Response
from rest_framework.views import APIView

from rest.parameters import Parameters
from rest.problems import as_problem, problem_response
from tenants.access import ANYBODY, CallerPermission


class Documentation(APIView):
    """What both have in common; their own renderers cannot write a problem, so we do it here."""

    permission_classes = [CallerPermission]
    required_scopes: ClassVar = {"GET": ANYBODY}
    schema = None  # the document does not describe itself

    def initial(self, request: Any, *args: Any, **kwargs: Any) -> None:
        """Check the caller and refuse every query parameter."""
        super().initial(request, *args, **kwargs)
        Parameters.parse(request.META.get("QUERY_STRING", ""), ())

    def handle_exception(self, exc: Exception) -> HttpResponse:  # type: ignore[override]
        """Answer with problem+json."""
        problem = as_problem(exc)
        if problem is None:
            raise exc
        return problem_response(problem, self.request)

    def options(  # type: ignore[override]
        self, request: Any, *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """Answer with ``Allow`` alone."""
        return HttpResponse(status=204)


class Schema(Documentation, SpectacularJSONAPIView):
    """The OpenAPI 3.1 document."""

    media_types: ClassVar = ("application/json", "application/vnd.oai.openapi+json")
    public = True

    def get(self, request: Any, *args: Any, **kwargs: Any) -> Response:
        """Return the whole document, whatever the caller may do."""
        response: Response = super().get(request, *args, **kwargs)  # type: ignore[no-untyped-call]
        return response


class Docs(Documentation, SpectacularSwaggerView):
    """Swagger UI over it."""

    media_types: ClassVar = ("text/html",)
    url_name = "api:schema"
