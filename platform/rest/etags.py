"""ETag and If-Match: nobody overwrites a version that they have not seen."""

from __future__ import annotations

import re

from django.http import HttpRequest
from rest_framework.request import Request

from rest.errors import PreconditionFailed, PreconditionRequired, ValidationFailed

_TAG = re.compile(r'(W/)?"([\x21\x23-\x7e]*)"', re.ASCII)


def etag(version: int | str) -> str:
    """Write the strong ETag of a version."""
    return f'"{version}"'


def require_match(
    request: HttpRequest | Request, version: int | str | None, *, required: bool = True
) -> None:
    """Compare ``If-Match`` with the current version. Call it while the row is locked.

    Weak tags never match (RFC 9110 §13.1.1); ``*`` matches whatever exists. ``None`` is the version of
    what does not exist: whoever means to make it sends no ``If-Match``, and any that is sent fails.

    Raises:
        PreconditionRequired: the header is missing and ``required``.
        PreconditionFailed: it names another version.
        ValidationFailed: it is not a list of ETags.
    """
    header = request.headers.get("If-Match")
    if header is None:
        if required and version is not None:
            raise PreconditionRequired()
        return
    if header.strip() == "*":
        if version is None:
            raise PreconditionFailed()
        return
    tags = []
    for part in header.split(","):
        match = _TAG.fullmatch(part.strip())
        if not match:
            raise ValidationFailed.at(
                "header:If-Match", "invalid", 'Write the ETag in quotation marks, such as "3".'
            )
        tags.append(None if match[1] else match[2])
    if version is None or str(version) not in tags:
        raise PreconditionFailed()
