"""Keyset cursors: newest first, stable while rows are inserted, flat in cost, no counting.

A page is the rows beyond a value of one unique column, so it costs one index range scan however
deep it is, and rows inserted meanwhile neither shift nor repeat any. The cursor holds that value
and the direction, signed together with the path: one from another list, or made up, is refused.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable
from dataclasses import dataclass
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
R = TypeVar("R")


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
    asked = _Asked.read(request, parameters)
    after = None
    if asked.value is not None:
        field: Any = queryset.model._meta.get_field(column)
        try:
            after = field.to_python(asked.value)
        except ValidationError:
            raise asked.refusal() from None
    up = ascending != asked.backwards  # towards larger values?
    if after is not None:
        queryset = queryset.filter(**{f"{column}__{'gt' if up else 'lt'}": after})
    rows = list(queryset.order_by(column if up else f"-{column}")[: asked.limit + 1])
    more = len(rows) > asked.limit
    rows = rows[: asked.limit]
    if asked.backwards:
        rows.reverse()
    return asked.answer(rows, more, render, lambda row: str(getattr(row, column)))


def page_of_few(
    request: Request,
    parameters: Parameters,
    rows: Iterable[R],
    render: Callable[[R], Any],
    *,
    key: Callable[[R], tuple[int | str, ...]],
) -> dict[str, Any]:
    """Return one page, as :func:`page_of` does, of a list so short that it is read whole.

    It goes up by ``key``, which no two rows share and whose members are always of the same types.

    Raises:
        ValidationFailed: a limit outside 1 to 200, or a cursor that this list did not give out.
    """
    asked = _Asked.read(request, parameters)
    found = sorted(rows, key=key)
    if asked.value is not None:
        after = tuple(json.loads(asked.value))
        found = [row for row in found if (key(row) < after if asked.backwards else key(row) > after)]
    more = len(found) > asked.limit
    page = found[-asked.limit :] if asked.backwards else found[: asked.limit]
    return asked.answer(page, more, render, lambda row: json.dumps(key(row)))


@dataclass(frozen=True, slots=True)
class _Asked:
    """Which page is asked for: at most ``limit`` rows beyond the one that ``value`` stands for."""

    path: str
    parameters: Parameters
    limit: int
    backwards: bool
    value: str | None

    @classmethod
    def read(cls, request: Request, parameters: Parameters) -> _Asked:
        limit = parameters.integer("limit", DEFAULT_LIMIT, minimum=1, maximum=MAX_LIMIT)
        token = parameters.text("cursor", max_length=300)
        if token is None:
            return cls(request.path, parameters, limit, backwards=False, value=None)
        value = _opened(request.path, token)
        if value is None:
            raise cls(request.path, parameters, limit, backwards=False, value=None).refusal()
        return cls(request.path, parameters, limit, backwards=value[0] == "p", value=value[1:])

    def refusal(self) -> ValidationFailed:
        return self.parameters.wrong(
            "cursor", "This cursor was not given out for this list; start again without one."
        )

    def answer(
        self, rows: list[R], more: bool, render: Callable[[R], Any], value_of: Callable[[R], str]
    ) -> dict[str, Any]:
        """Return the page of ``rows``; ``more`` says that there are others in the direction asked."""
        # Where we came from there is at least the row that the cursor names, as long as it exists.
        has_next = bool(rows) and (self.backwards or more)
        has_previous = bool(rows) and (more if self.backwards else self.value is not None)
        return {
            "results": [render(row) for row in rows],
            "next": self._link("n", value_of(rows[-1])) if has_next else None,
            "previous": self._link("p", value_of(rows[0])) if has_previous else None,
        }

    def _link(self, way: str, value: str) -> str:
        signed = f"{way}{value}"
        token = _encode(f"{_sign(self.path, signed)}{signed}")
        query = urlencode({**self.parameters.values, "cursor": token})
        return f"{site()}{self.path}?{query}"


def _opened(path: str, token: str) -> str | None:
    """Return the direction and the value in a cursor; None if it was not given out for this list."""
    try:
        raw = urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode()
    except ValueError:
        return None
    signature, value = raw[:_SIGNATURE], raw[_SIGNATURE:]
    # The decoder skips what is not base64, so compare with what we would have written.
    genuine = _encode(raw) == token and constant_time_compare(signature, _sign(path, value))
    return value if genuine and value else None


def _encode(text: str) -> str:
    return urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def _sign(path: str, value: str) -> str:
    return salted_hmac("rest.pagination", f"{path}\n{value}", algorithm="sha256").hexdigest()[
        :_SIGNATURE
    ]
