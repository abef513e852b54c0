"""Keyset cursors: newest first, stable while rows are inserted, flat in cost, no counting.

A page is the rows beyond a value of one unique column, so it costs one index range scan however
deep it is, and rows inserted meanwhile neither shift nor repeat any. The cursor holds that value
and the direction, signed together with the path: one from another list, or made up, is refused.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlencode

from django.core.exceptions import ValidationError
from django.db.models import Model, QuerySet
from django.utils.crypto import constant_time_compare, salted_hmac
from rest_framework.request import Request

from rest.errors import ValidationFailed
from rest.links import site
from rest.parameters import Parameters

DEFAULT_LIMIT = 50
MAX_LIMIT = 200
PARAMETERS = ("limit", "cursor")

_SIGNATURE = 20

M = TypeVar("M", bound=Model)


def page_of(
    request: Request,
    parameters: Parameters,
    queryset: QuerySet[M],
    render: Callable[[M], Any],
    *,
    column: str = "id",
    ascending: bool = False,
) -> dict[str, Any]:
    """Return one page: ``{"results": [...], "next": url|null, "previous": url|null}``.

    ``column`` must be unique within the queryset and indexed for it; ``parameters`` must allow
    ``PARAMETERS``. The links keep the request's other parameters.

    Raises:
        ValidationFailed: a limit outside 1 to 200, or a cursor that this list did not give out.
    """
    limit = parameters.integer("limit", DEFAULT_LIMIT, minimum=1, maximum=MAX_LIMIT)
    token = parameters.text("cursor", max_length=300)
    backwards, after = False, None
    if token is not None:
        backwards, after = _read(request.path, token, queryset, column, parameters)

    up = ascending != backwards  # towards larger values?
    if after is not None:
        queryset = queryset.filter(**{f"{column}__{'gt' if up else 'lt'}": after})
    rows = list(queryset.order_by(column if up else f"-{column}")[: limit + 1])
    more = len(rows) > limit
    rows = rows[:limit]
    if backwards:
        rows.reverse()

    # Where we came from there is at least the row that the cursor names, as long as it exists.
    has_next = bool(rows) and (backwards or more)
    has_previous = bool(rows) and (more if backwards else after is not None)
    return {
        "results": [render(row) for row in rows],
        "next": _link(request, parameters, "n", rows[-1], column) if has_next else None,
        "previous": _link(request, parameters, "p", rows[0], column) if has_previous else None,
    }


def _link(request: Request, parameters: Parameters, way: str, row: Model, column: str) -> str:
    value = f"{way}{getattr(row, column)}"
    token = _encode(f"{_sign(request.path, value)}{value}")
    query = urlencode({**parameters.values, "cursor": token})
    return f"{site()}{request.path}?{query}"


def _read(
    path: str, token: str, queryset: QuerySet[Any], column: str, parameters: Parameters
) -> tuple[bool, Any]:
    refusal = parameters.wrong(
        "cursor", "This cursor was not given out for this list; start again without one."
    )
    try:
        raw = urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode()
        signature, value = raw[:_SIGNATURE], raw[_SIGNATURE:]
        # The decoder skips what is not base64, so compare with what we would have written.
        if _encode(raw) != token or not constant_time_compare(signature, _sign(path, value)):
            raise refusal
        return value[0] == "p", queryset.model._meta.get_field(column).to_python(value[1:])
    except ValidationFailed:
        raise
    except (ValueError, IndexError, ValidationError):
        raise refusal from None


def _encode(text: str) -> str:
    return urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def _sign(path: str, value: str) -> str:
    return salted_hmac("rest.pagination", f"{path}\n{value}", algorithm="sha256").hexdigest()[
        :_SIGNATURE
    ]
