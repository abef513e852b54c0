"""Query parameters, strictly: an unknown, repeated or unreadable one is 400, never ignored."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import TypeVar
from urllib.parse import parse_qsl

from rest.errors import FieldError, ValidationFailed
from rest.fields import parse_time
from rest.strict_json import text_fault

T = TypeVar("T")
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})")
MAX_PARAMETERS = 50


class Parameters:
    """The parameters of one request, each at most once, each one known.

    Readers return the default when the parameter is absent and raise ``ValidationFailed`` with the
    pointer ``query:NAME`` when its value is wrong.
    """

    def __init__(self, values: Mapping[str, str]) -> None:
        self.values = dict(values)

    @classmethod
    def parse(cls, query: str, allowed: Iterable[str]) -> Parameters:
        """Read a raw query string.

        Raises:
            ValidationFailed: with one error per unknown, repeated or unreadable parameter.
        """
        try:
            pairs = parse_qsl(
                query,
                keep_blank_values=True,
                encoding="utf-8",
                errors="strict",
                max_num_fields=MAX_PARAMETERS,
            )
        except UnicodeDecodeError:
            raise ValidationFailed.at("query:", "encoding", "Parameters must be UTF-8.") from None
        except ValueError:
            raise ValidationFailed.at("query:", "too_many", "Too many parameters.") from None
        known = set(allowed)
        found: dict[str, str] = {}
        wrong = []
        for name, value in pairs:
            shown = f"query:{name[:100]}"
            fault = text_fault(value) or text_fault(name)
            if name not in known:
                wrong.append(FieldError(shown, "unknown_parameter", "There is no such parameter."))
            elif name in found:
                wrong.append(
                    FieldError(shown, "repeated_parameter", "This parameter may be given once.")
                )
            elif fault:
                wrong.append(FieldError(shown, *fault))
            found[name] = value
        if wrong:
            raise ValidationFailed(errors=wrong)
        return cls(found)

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def text(self, name: str, default: str | None = None, *, max_length: int = 500) -> str | None:
        """Return the text as it came; empty text is an error."""
        value = self.values.get(name)
        if value is None:
            return default
        if not value or len(value) > max_length:
            raise self.wrong(name, f"Give 1 to {max_length} characters.")
        return value

    def integer(self, name: str, default: T, *, minimum: int = 0, maximum: int = 2**63 - 1) -> int | T:
        """Return an integer in ASCII digits, without spaces, ``+`` or leading zeros."""
        value = self.values.get(name)
        if value is None:
            return default
        number = int(value) if _INTEGER.fullmatch(value) else None
        if number is None or not minimum <= number <= maximum:
            raise self.wrong(name, f"Give a whole number from {minimum} to {maximum}.")
        return number

    def boolean(self, name: str, default: T) -> bool | T:
        """Return ``true`` or ``false``."""
        value = self.values.get(name)
        if value is None:
            return default
        if value not in ("true", "false"):
            raise self.wrong(name, "Give true or false.")
        return value == "true"

    def time(self, name: str) -> datetime | None:
        """Return an RFC 3339 time with an offset (``+`` must be sent as ``%2B``)."""
        return self._read(
            name, parse_time, "Give an RFC 3339 time with an offset, such as 2026-11-21T09:30:00Z."
        )

    def choices(self, name: str, allowed: Mapping[str, T]) -> list[T] | None:
        """Return what the comma-separated words stand for (OR inside one parameter)."""
        value = self.values.get(name)
        if value is None:
            return None
        words = value.split(",")
        if any(word not in allowed for word in words):
            raise self.wrong(name, f"Choose from {', '.join(allowed)}, separated by commas.")
        return [allowed[word] for word in words]

    def words(self, name: str, *, maximum: int = 50, max_length: int = 200) -> list[str] | None:
        """Return the comma-separated words; an empty one is an error."""
        value = self.values.get(name)
        if value is None:
            return None
        words = value.split(",")
        if len(words) > maximum or any(not 0 < len(word) <= max_length for word in words):
            raise self.wrong(name, f"Give 1 to {maximum} words, separated by commas.")
        return words

    def wrong(self, name: str, detail: str, *, code: str = "invalid") -> ValidationFailed:
        """Make the error for one parameter, for the caller to raise."""
        return ValidationFailed.at(f"query:{name}", code, detail)

    def _read(self, name: str, reader: Callable[[str], T | None], detail: str) -> T | None:
        value = self.values.get(name)
        if value is None:
            return None
        found = reader(value)
        if found is None:
            raise self.wrong(name, detail)
        return found
