"""What goes out: compact JSON, and refusals for clients that accept something else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import BaseRenderer
from rest_framework.renderers import JSONRenderer as StockJSONRenderer
from rest_framework.request import Request

from rest.errors import NotAcceptable

JSON = "application/json"
PROBLEM = "application/problem+json"


class JSONRenderer(StockJSONRenderer):
    """Compact UTF-8 JSON; NaN and infinities raise, they are not JSON."""

    compact = True
    strict = True
    ensure_ascii = False

    def get_indent(self, accepted_media_type: str, renderer_context: Mapping[str, Any]) -> None:
        """Ignore ``Accept: application/json; indent=4``: one form for everybody."""


class Negotiation(DefaultContentNegotiation):
    """Choose the answer's media type.

    A view that has other forms of its answer lists them in ``media_types``, best first; it finds
    the choice in ``request.accepted_media_type`` and renders any but JSON itself. A client that
    accepts only ``application/problem+json`` is content: that is JSON too.
    """

    def select_renderer(
        self,
        request: Request,
        renderers: Iterable[BaseRenderer],
        format_suffix: str | None = None,
    ) -> tuple[BaseRenderer, str]:
        """Return the renderer and the media type.

        Raises:
            NotAcceptable: nothing on offer suits the ``Accept`` header.
        """
        view = request.parser_context.get("view")
        offered: tuple[str, ...] = getattr(view, "media_types", (JSON,))
        chosen = choose(request.headers.get("Accept", "*/*"), offered)
        if chosen is None:
            raise NotAcceptable(
                f"The answer is {' or '.join(offered)}; your Accept header leaves that out."
            )
        return next(iter(renderers)), chosen


class AsItIs(Negotiation):
    """For bytes that have no other form: whatever the client would rather have, it gets them."""

    def select_renderer(
        self,
        request: Request,
        renderers: Iterable[BaseRenderer],
        format_suffix: str | None = None,
    ) -> tuple[BaseRenderer, str]:
        """Return the renderer of problems; it is not asked for anything else."""
        return next(iter(renderers)), JSON


def choose(accept: str, offered: tuple[str, ...]) -> str | None:
    """Return the offered media type that the header likes best; ``None`` when it likes none.

    The most specific range decides the quality of each type (RFC 9110 §12.5.1); among equals the
    order of ``offered`` decides.
    """
    ranges = [_parse(part) for part in accept[:1024].split(",") if part.strip()]
    if not ranges:
        return offered[0]
    best: tuple[float, str | None] = (0.0, None)
    for media in offered:
        quality = _quality(media, ranges)
        if media == JSON:
            named = (found for name, found in ranges if name == PROBLEM)
            quality = max(quality, *named, 0.0)
        if quality > best[0]:
            best = (quality, media)
    return best[1]


def _parse(part: str) -> tuple[str, float]:
    name, *parameters = (piece.strip().lower() for piece in part.split(";"))
    quality = 1.0
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip() == "q":
            try:
                quality = min(1.0, max(0.0, float(value)))
            except ValueError:
                quality = 0.0
    return name, quality


def _quality(media: str, ranges: list[tuple[str, float]]) -> float:
    family = media.partition("/")[0] + "/*"
    for wanted in (media, family, "*/*"):
        found = [quality for name, quality in ranges if name == wanted]
        if found:
            return max(found)
    return 0.0
