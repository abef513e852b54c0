"""Turn DRF's nested validation errors into a flat list with JSON Pointers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rest_framework.exceptions import ErrorDetail
from rest_framework.settings import api_settings

from rest.errors import FieldError
from rest.strict_json import pointer_token


def field_errors(detail: Any, pointer: str = "") -> list[FieldError]:
    """Flatten ``detail`` (dicts, lists and ``ErrorDetail``) below ``pointer``."""
    return list(_walk(detail, pointer))


def _walk(detail: Any, pointer: str) -> Iterator[FieldError]:
    if isinstance(detail, dict):
        for key, member in detail.items():
            whole = key == api_settings.NON_FIELD_ERRORS_KEY
            yield from _walk(member, pointer if whole else f"{pointer}/{pointer_token(key)}")
    elif isinstance(detail, list | tuple):
        # A list of messages is about one place; a list of dicts has one entry for each item.
        nested = any(isinstance(member, dict | list) for member in detail)
        for index, member in enumerate(detail):
            yield from _walk(member, f"{pointer}/{index}" if nested else pointer)
    elif detail:
        code = detail.code if isinstance(detail, ErrorDetail) else "invalid"
        yield FieldError(pointer, str(code or "invalid"), str(detail))
