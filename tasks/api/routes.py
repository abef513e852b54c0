"""``/operator/routes``: the operators' rules for which queue a task goes to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.response import Response

from rest.etags import etag, require_match
from rest.fields import (
    ChoiceField,
    Duration,
    NameField,
    SlugField,
    StrictInteger,
    StrictSerializer,
)
from rest.pagination import PARAMETERS, page_of_few
from rest.parsing import Request
from tasks.api.fields import Labels
from tasks.api.serializers import OPTIONAL, WEEK
from tasks.models import Route
from tasks.selectors.routes import route_get, route_json, route_order
from tasks.services.routes import route_delete, route_put
from tasks.states import Queue
from tenants.access import OperatorView


class RouteMatch(StrictSerializer):
    """What a rule asks for, all of it; ``*`` in the type and in a label's value is any characters."""

    type = NameField(max_length=100, **OPTIONAL)
    labels = Labels(**OPTIONAL)
    tenant = SlugField(**OPTIONAL)
    estimated_seconds_over = Duration(maximum=4 * WEEK, **OPTIONAL)
    estimated_seconds_under = Duration(above=0, maximum=4 * WEEK, **OPTIONAL)

    def validate(self, attrs: Mapping[str, Any]) -> dict[str, Any]:
        asked = {name: value for name, value in attrs.items() if value not in (None, {})}
        if not asked:
            message = 'Say what it matches; {"type": "*"} is every task.'
            raise ValidationError(message, code="matches_nothing")
        over, under = (asked.get(f"estimated_seconds_{side}") for side in ("over", "under"))
        if over is not None and under is not None and over >= under:
            message = "Nothing takes longer than this and less than `estimated_seconds_under`."
            raise ValidationError(
                {"estimated_seconds_over": [ErrorDetail(message, code="above_maximum")]}
            )
        return asked


class RouteBody(StrictSerializer):
    """``PUT /operator/routes/{name}``: the whole rule."""

    match = RouteMatch()
    queue = ChoiceField(choices=tuple(queue.value for queue in Queue))
    position = StrictInteger(minimum=0, maximum=1_000_000, **OPTIONAL)


class Routes(OperatorView):
    """All routing rules."""

    query_parameters: ClassVar = {"GET": PARAMETERS}

    @extend_schema(operation_id="operator_routes_list", responses={200: dict[str, Any]})
    def get(self, request: Request) -> Response:
        """List the rules in the order in which they are asked; the first that matches decides."""
        found = Route.objects.select_related("tenant")
        return Response(page_of_few(request, self.parameters, found, route_json, key=route_order))


class RouteDetail(OperatorView):
    """One routing rule."""

    @extend_schema(operation_id="operator_routes_read", responses={200: dict[str, Any]})
    def get(self, request: Request, name: str) -> Response:
        """Show one rule."""
        return _answer(route_get(name), 200)

    @extend_schema(
        operation_id="operator_routes_set", request=RouteBody, responses={200: dict[str, Any]}
    )
    def put(self, request: Request, name: str) -> Response:
        """Make a rule (201), or replace all of it (200); it holds from the next submit on."""
        route, made = route_put(
            actor=self.actor,
            name=name,
            check=lambda version: require_match(request, version, required=False),
            **RouteBody.read(request.data),
        )
        return _answer(route, 201 if made else 200)

    @extend_schema(operation_id="operator_routes_delete", responses={204: None})
    def delete(self, request: Request, name: str) -> Response:
        """Delete a rule; tasks stay in the queues they are in."""
        route_delete(
            actor=self.actor,
            name=name,
            check=lambda version: require_match(request, version, required=False),
        )
        return Response(status=204)


def _answer(route: Route, status: int) -> Response:
    return Response(route_json(route), status=status, headers={"ETag": etag(route.version)})
