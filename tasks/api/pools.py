"""``/operator/pools``: how large the pools are and why, and how large they may be."""

from __future__ import annotations

from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema
from rest_framework.response import Response

from rest.errors import FieldError, ValidationFailed
from rest.etags import etag, require_match
from rest.pagination import PARAMETERS, page_of_few
from rest.parsing import Request
from switchyard.bounds import Bounds
from tasks.api.serializers import PoolsBody
from tasks.selectors.pools import bounds_version, pool_json, pool_states
from tasks.services.pools import pools_scale
from tasks.states import Queue
from tenants.access import OperatorView


class OperatorPools(OperatorView):
    """The three pools."""

    query_parameters: ClassVar = {"GET": PARAMETERS}

    @extend_schema(operation_id="operator_pools_list", responses={200: dict[str, Any]})
    def get(self, request: Request) -> Response:
        """Show each pool's bounds, target and why, its slots, how many are busy, and what waits."""
        return self._pools(request)

    @extend_schema(
        operation_id="operator_pools_scale", request=PoolsBody, responses={200: dict[str, Any]}
    )
    def patch(self, request: Request) -> Response:
        """Set the bounds of the pools named, on every machine: all or none. Tasks that run end first."""
        pools_scale(
            actor=self.actor,
            bounds=_bounds(PoolsBody.read(request.data)),
            check=lambda version: require_match(request, version, required=False),
        )
        return self._pools(request)

    def _pools(self, request: Request) -> Response:
        page = page_of_few(
            request,
            self.parameters,
            pool_states(),
            pool_json,
            key=lambda state: (list(Queue).index(Queue(state.name)),),
        )
        return Response(page, headers={"ETag": etag(bounds_version())})


def _bounds(values: dict[str, dict[str, int]]) -> dict[str, Bounds]:
    wrong = [
        FieldError(f"/{queue}/min", "above_maximum", "The minimum is above `max`.")
        for queue, given in values.items()
        if given["min"] > given["max"]
    ]
    if not values:
        wrong.append(FieldError("", "empty", "Name one pool at least."))
    if wrong:
        raise ValidationFailed(errors=wrong)
    return {queue: Bounds(given["min"], given["max"]) for queue, given in values.items()}
