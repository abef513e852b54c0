"""Path converters: ASCII only, so that ``/tasks/١`` and ``/tasks/%0a1`` are unknown addresses.

What does not match is no route at all, and gives the same 404 as an unknown id.
"""

from __future__ import annotations

from uuid import UUID

from django.urls import register_converter

from rest.text import UUID_FORM


class IdConverter:
    """A UUID in its usual form (8-4-4-4-12 hexadecimal digits)."""

    regex = UUID_FORM.pattern

    def to_python(self, value: str) -> UUID:
        return UUID(value)

    def to_url(self, value: object) -> str:
        return str(value)


class NameConverter:
    """A slug: small ASCII letters, digits, single hyphens inside; at most 50 characters."""

    regex = "(?=[a-z0-9-]{1,50}(?![a-z0-9-]))[a-z0-9]+(?:-[a-z0-9]+)*"

    def to_python(self, value: str) -> str:
        return value

    def to_url(self, value: str) -> str:
        return value


class NumberConverter:
    """A natural number below 10^18, without leading zeros."""

    regex = "(?:0|[1-9][0-9]{0,17})"

    def to_python(self, value: str) -> int:
        return int(value)

    def to_url(self, value: int) -> str:
        return str(value)


class WordConverter:
    """Any other name in an address (a user, a task type): up to 300 characters, none of control."""

    regex = r"[^/\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,300}"

    def to_python(self, value: str) -> str:
        return value

    def to_url(self, value: str) -> str:
        return value


register_converter(IdConverter, "id")
register_converter(NameConverter, "name")
register_converter(NumberConverter, "number")
register_converter(WordConverter, "word")
