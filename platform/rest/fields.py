"""Serializer fields that take JSON's own types and nothing that merely looks like them.

DRF's fields turn ``"7"``, ``" 7 "`` and ``true`` into integers and ``1`` into true. Here a wrong
type is an error, because a client that sends one has a bug that it should hear about.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail, ValidationError

from rest.strict_json import MAX_INTEGER, MIN_INTEGER, text_fault
from rest.text import MAX_SLUG, TextRefused, clean_slug, clean_text
from rest.times import rfc3339

_RFC3339 = re.compile(
    r"\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(?:\.\d{1,9})?(?:[Zz]|[+-]\d{2}:\d{2})", re.ASCII
)
_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = datetime(2262, 1, 1, tzinfo=UTC)


class StrictSerializer(serializers.Serializer[Any]):
    """A serializer that refuses fields it does not know, and those that a client may not set."""

    @classmethod
    def read(cls, data: Any) -> dict[str, Any]:
        """Validate a body and return its values; only members that were sent, or have a default.

        Raises:
            ValidationError: answered as 400 with a pointer per wrong place.
        """
        values: dict[str, Any] = _reader(cls).run_validation(data)
        return values

    def to_internal_value(self, data: Any) -> Any:
        """Validate; every unknown or read-only field is an error at its own pointer."""
        if not isinstance(data, Mapping):
            raise ValidationError("This must be a JSON object.", code="not_an_object")
        writable = {field.field_name for field in self._writable_fields}
        unknown = {
            str(key): [ErrorDetail("There is no such field here.", code="unknown_field")]
            for key in data
            if key not in writable
        }
        try:
            value = super().to_internal_value(data)
        except ValidationError as error:
            detail = error.detail if isinstance(error.detail, dict) else {}
            raise ValidationError({**detail, **unknown}) from None
        if unknown:
            raise ValidationError(unknown)
        return value


@cache
def _reader(serializer: type[StrictSerializer]) -> StrictSerializer:
    """Return the one instance that validates: it keeps nothing, and DRF copies all fields for each."""
    return serializer()


class StrictField(serializers.Field[Any, Any, Any, Any]):
    """A field that takes one JSON type; ``openapi`` describes it."""

    default_error_messages = {"type": "This has the wrong type."}

    def openapi(self) -> dict[str, Any]:
        """Return the field's JSON Schema."""
        raise NotImplementedError

    def to_representation(self, value: Any) -> Any:
        return value


class StrictInteger(StrictField):
    """A JSON integer; ``true``, ``7.0`` and ``"7"`` are not. Bounds are inclusive."""

    default_error_messages = {
        "type": "This must be an integer.",
        "range": "This must be between {minimum} and {maximum}.",
    }

    def __init__(
        self, *, minimum: int = MIN_INTEGER, maximum: int = MAX_INTEGER, **options: Any
    ) -> None:
        self.minimum = minimum
        self.maximum = maximum
        super().__init__(**options)

    def openapi(self) -> dict[str, Any]:
        return {"type": "integer", "minimum": self.minimum, "maximum": self.maximum}

    def to_internal_value(self, data: Any) -> int:
        if isinstance(data, bool) or not isinstance(data, int):
            self.fail("type")
        if not self.minimum <= data <= self.maximum:
            self.fail("range", minimum=self.minimum, maximum=self.maximum)
        return int(data)


class StrictBoolean(StrictField):
    """``true`` or ``false``; ``1`` and ``"yes"`` are not."""

    default_error_messages = {"type": "This must be true or false."}

    def openapi(self) -> dict[str, Any]:
        return {"type": "boolean"}

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            self.fail("type")
        return bool(data)


class StrictFloat(StrictField):
    """A finite JSON number. Bounds are inclusive; ``above`` is an exclusive lower bound."""

    default_error_messages = {
        "type": "This must be a number.",
        "range": "This must be between {minimum} and {maximum}.",
        "above": "This must be more than {above}.",
    }

    def __init__(
        self,
        *,
        minimum: float = -math.inf,
        maximum: float = math.inf,
        above: float | None = None,
        **options: Any,
    ) -> None:
        self.minimum = minimum
        self.maximum = maximum
        self.above = above
        super().__init__(**options)

    def openapi(self) -> dict[str, Any]:
        bounds = {
            "minimum": self.minimum if math.isfinite(self.minimum) else None,
            "maximum": self.maximum if math.isfinite(self.maximum) else None,
            "exclusiveMinimum": self.above,
        }
        return {"type": "number", **{name: at for name, at in bounds.items() if at is not None}}

    def to_internal_value(self, data: Any) -> float:
        if isinstance(data, bool) or not isinstance(data, int | float):
            self.fail("type")
        number = float(data)
        if not math.isfinite(number):
            self.fail("type")
        if self.above is not None and number <= self.above:
            self.fail("above", above=self.above)
        if not self.minimum <= number <= self.maximum:
            self.fail("range", minimum=self.minimum, maximum=self.maximum)
        return number


class Duration(StrictFloat):
    """A number of seconds, not negative unless told; at most ten years unless told."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("minimum", 0)
        options.setdefault("maximum", timedelta(days=3660).total_seconds())
        super().__init__(**options)


class StrictString(StrictField):
    """A JSON string as it came; NUL and lone surrogates are refused. For opaque text."""

    default_error_messages = {
        "type": "This must be a string.",
        "min_length": "At least {min_length} characters are needed.",
        "max_length": "At most {max_length} characters are allowed.",
    }

    def __init__(self, *, min_length: int = 0, max_length: int = 10_000, **options: Any) -> None:
        self.min_length = min_length
        self.max_length = max_length
        super().__init__(**options)

    def openapi(self) -> dict[str, Any]:
        return {"type": "string", "minLength": self.min_length, "maxLength": self.max_length}

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("type")
        text = str(data)
        if len(text) < self.min_length:
            self.fail("min_length", min_length=self.min_length)
        if len(text) > self.max_length:
            self.fail("max_length", max_length=self.max_length)
        fault = text_fault(text)
        if fault:
            raise ValidationError(fault[1], code=fault[0])
        return text


class NameField(StrictString):
    """Text that people read, by the rules of :func:`rest.text.clean_text`."""

    def __init__(self, *, max_length: int = 200, lines: bool = False, **options: Any) -> None:
        self.lines = lines
        super().__init__(max_length=max_length, **options)

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("type")
        try:
            return clean_text(data, max_length=self.max_length, lines=self.lines)
        except TextRefused as error:
            raise ValidationError(error.detail, code=error.code) from None


class SlugField(StrictString):
    """A slug by the rules of :func:`rest.text.clean_slug`."""

    def openapi(self) -> dict[str, Any]:
        return {"type": "string", "pattern": "^[a-z0-9](-?[a-z0-9])*$", "maxLength": MAX_SLUG}

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("type")
        try:
            return clean_slug(data)
        except TextRefused as error:
            raise ValidationError(error.detail, code=error.code) from None


class ChoiceField(StrictString):
    """One of a few words; the error lists them."""

    def __init__(self, *, choices: tuple[str, ...], **options: Any) -> None:
        self.choices = choices
        super().__init__(**options)

    def openapi(self) -> dict[str, Any]:
        return {"type": "string", "enum": list(self.choices)}

    def to_internal_value(self, data: Any) -> str:
        text = super().to_internal_value(data)
        if text not in self.choices:
            raise ValidationError(f"Choose one of {', '.join(self.choices)}.", code="choice")
        return text


class ZonedDateTime(StrictField):
    """An RFC 3339 time with an offset, from 1970 to 2262; a time without a zone is refused."""

    default_error_messages = {
        "type": "Write the time as RFC 3339 with an offset, such as 2026-11-21T09:30:00Z.",
        "range": "The time is outside the years 1970 to 2262.",
    }

    def openapi(self) -> dict[str, Any]:
        return {"type": "string", "format": "date-time"}

    def to_internal_value(self, data: Any) -> datetime:
        if not isinstance(data, str):
            self.fail("type")
        moment = parse_time(data)
        if moment is None:
            self.fail("type")
        if not _EARLIEST <= moment < _LATEST:
            self.fail("range")
        return moment

    def to_representation(self, value: Any) -> str | None:
        return rfc3339(value)


def parse_time(text: str) -> datetime | None:
    """Read an RFC 3339 time with an offset, in UTC; ``None`` when it is none."""
    if len(text) > 40 or not _RFC3339.fullmatch(text):
        return None
    try:
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
