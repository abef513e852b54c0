"""Fields that only tasks need: params, labels, names of inputs and secrets, ids of other tasks."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from typing import Any

from rest_framework.exceptions import ErrorDetail, ValidationError

from rest.fields import StrictField, StrictString
from rest.text import UUID_FORM, TextRefused, clean_text

MAX_LABELS = 32
MAX_LABEL_KEY = 63
MAX_LABEL_VALUE = 255


class JsonObject(StrictField):
    """A JSON object, kept as it came: its members are checked by who knows its schema."""

    default_error_messages = {"type": "This must be a JSON object."}

    def openapi(self) -> dict[str, Any]:
        return {"type": "object", "additionalProperties": True}

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        if not isinstance(data, Mapping):
            self.fail("type")
        return dict(data)


class Labels(StrictField):
    """Up to 32 pairs of a short name and a text.

    A name has neither ``=`` nor ``,``, because the list's filter writes ``name=value,name``.
    """

    default_error_messages = {
        "type": "This must be a JSON object of texts.",
        "too_many": f"At most {MAX_LABELS} labels are allowed.",
    }

    def openapi(self) -> dict[str, Any]:
        return {
            "type": "object",
            "maxProperties": MAX_LABELS,
            "propertyNames": {"minLength": 1, "maxLength": MAX_LABEL_KEY, "pattern": "^[^=,]+$"},
            "additionalProperties": {"type": "string", "maxLength": MAX_LABEL_VALUE},
        }

    def to_internal_value(self, data: Any) -> dict[str, str]:
        if not isinstance(data, Mapping):
            self.fail("type")
        if len(data) > MAX_LABELS:
            self.fail("too_many")
        labels: dict[str, str] = {}
        wrong: dict[str, list[ErrorDetail]] = {}
        for name, value in data.items():
            try:
                labels[_label_name(name)] = _label_value(value)
            except TextRefused as error:
                wrong[str(name)] = [ErrorDetail(error.detail, code=error.code)]
        if wrong:
            raise ValidationError(wrong)
        return labels


def _label_name(name: str) -> str:
    if "=" in name or "," in name:
        raise TextRefused("label_name", "A label's name has no equals sign and no comma.")
    return clean_text(name, max_length=MAX_LABEL_KEY)


def _label_value(value: Any) -> str:
    if not isinstance(value, str):
        raise TextRefused("type", "A label's value must be a string.")
    return clean_text(value, max_length=MAX_LABEL_VALUE) if value else ""


class Identifier(StrictString):
    """A name of letters, digits and a few marks, as ``pattern`` has it."""

    default_error_messages = {"pattern": "Use {allowed}."}

    def __init__(self, *, pattern: str, allowed: str, **options: Any) -> None:
        self.pattern = re.compile(pattern, re.ASCII)
        self.allowed = allowed
        super().__init__(min_length=1, **options)

    def openapi(self) -> dict[str, Any]:
        return {**super().openapi(), "pattern": f"^{self.pattern.pattern}$"}

    def to_internal_value(self, data: Any) -> str:
        text = super().to_internal_value(data)
        if not self.pattern.fullmatch(text):
            self.fail("pattern", allowed=self.allowed)
        return text


class StrictUUID(StrictField):
    """A UUID in its usual form (8-4-4-4-12 hexadecimal digits)."""

    default_error_messages = {"type": "This must be a UUID."}

    def openapi(self) -> dict[str, Any]:
        return {"type": "string", "format": "uuid"}

    def to_internal_value(self, data: Any) -> uuid.UUID:
        if not isinstance(data, str) or not UUID_FORM.fullmatch(data):
            self.fail("type")
        return uuid.UUID(data)
