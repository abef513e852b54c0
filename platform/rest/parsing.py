"""Request bodies: size, type, charset and encoding are checked before one byte is parsed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, Any, Literal

from django.conf import settings
from django.http import HttpRequest
from django.http.request import RawPostDataException
from django.utils.datastructures import MultiValueDict
from rest_framework.parsers import BaseParser
from rest_framework.request import Request as StockRequest

from rest.errors import BadRequest, TooLarge, UnsupportedMedia
from rest.strict_json import parse_json

Body = Literal["object", "optional", "any"]


class StrictJSONParser(BaseParser):
    """Parse ``application/json`` by the rules of :mod:`rest.strict_json`.

    The view's ``body`` says what is due: ``object`` (the default), ``optional`` (an object, or
    nothing at all, read as ``{}``) or ``any`` (any JSON value: a document).
    """

    media_type = "application/json"

    def parse(
        self,
        stream: IO[bytes],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return the document.

        Raises:
            BadRequest: it is empty, not strict JSON, or not an object where one is due.
        """
        view = (parser_context or {}).get("view")
        return parse_body(stream.read(), getattr(view, "body", "object"))


def parse_body(raw: bytes, due: Body = "object") -> Any:
    """Parse a body of which ``due`` says what it must be; see :class:`StrictJSONParser`."""
    if not raw.strip():
        if due == "optional":
            return {}
        raise BadRequest("The body is empty; send a JSON document.", code="empty_body")
    document = parse_json(raw)
    if due != "any" and not isinstance(document, dict):
        raise BadRequest("The body must be a JSON object.", code="not_an_object")
    return document


def read_body(request: HttpRequest, *, limit: int | None = None) -> bytes:
    """Read the whole body, with or without a ``Content-Length``.

    Raises:
        TooLarge: it has more bytes than ``limit`` (default: ``SWITCHYARD_MAX_BODY``).
    """
    limit = settings.SWITCHYARD.max_body_bytes if limit is None else limit
    if (declared_length(request) or 0) > limit:
        raise too_large(limit)
    try:
        started = getattr(request, "_read_started", False)
        raw = request.body if started else request.read(limit + 1)
    except RawPostDataException:
        raise UnsupportedMedia() from None
    if len(raw) > limit:
        raise too_large(limit)
    return raw


def refuse_compression(request: HttpRequest) -> None:
    """Take bodies only as they are.

    Raises:
        UnsupportedMedia
    """
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise UnsupportedMedia("Compressed bodies are not taken; send it as it is.")


def declared_length(request: HttpRequest) -> int | None:
    """Return the ``Content-Length`` of a request, if it has a readable one."""
    declared = request.META.get("CONTENT_LENGTH") or ""
    return int(declared[:20]) if declared.isascii() and declared.isdigit() else None


def too_large(limit: int) -> TooLarge:
    """Make the error for a body of more than ``limit`` bytes, for the caller to raise or to send."""
    return TooLarge(
        f"The body is larger than {limit} bytes. Declare large data in `inputs` and upload it.",
        limit=limit,
    )


class Request(StockRequest):
    """DRF's request, reading bodies as this server promises.

    DRF takes a body without ``Content-Length`` (chunked) for no body, and knows no size limit.
    """

    def _parse(self) -> tuple[Any, MultiValueDict[str, Any]]:
        self.refuse_encodings()
        raw = read_body(self._request)
        if raw.strip() and self._request.content_type != StrictJSONParser.media_type:
            raise UnsupportedMedia()
        return parse_body(raw, self._due()), MultiValueDict()

    def _due(self) -> Body:
        due: Body = getattr(self.parser_context["view"], "body", "object")
        return due

    def refuse_encodings(self) -> None:
        """Refuse compressed bodies (a small one may hide a bomb) and other charsets than UTF-8.

        Raises:
            UnsupportedMedia
        """
        refuse_compression(self._request)
        charset = (self._request.content_params or {}).get("charset", "utf-8")
        if charset.strip("\"' ").lower() not in ("utf-8", "utf8"):
            raise UnsupportedMedia("The charset must be utf-8.")
