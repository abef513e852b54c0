"""What operators may send as off-peak windows; the shape that :mod:`tenants.windows` reads."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail, ValidationError

from rest.fields import ChoiceField, StrictSerializer, StrictString
from tenants.windows import DAYS, LONGEST_ZONE, MOST_WINDOWS, minutes_of, zones

_CLOCK = re.compile(r"(?:[01][0-9]|2[0-3]):[0-5][0-9]", re.ASCII)


class ZoneField(StrictString):
    """The name of a zone in the IANA database, such as ``Europe/Berlin``."""

    default_error_messages = {"zone": "Name a zone of the IANA database, such as Europe/Berlin."}

    def __init__(self, **options: Any) -> None:
        super().__init__(min_length=1, max_length=LONGEST_ZONE, **options)

    def to_internal_value(self, data: Any) -> str:
        name = super().to_internal_value(data)
        # Only names from the list: whatever else somebody writes never becomes a path.
        if name not in zones():
            self.fail("zone")
        return name


class ClockField(StrictString):
    """A time of day, ``HH:MM``; ``24:00`` is the end of a day where ``end`` says so."""

    default_error_messages = {"clock": "Write the time as HH:MM, from 00:00 to {last}."}

    def __init__(self, *, end: bool = False, **options: Any) -> None:
        self.end = end
        super().__init__(max_length=5, **options)

    def openapi(self) -> dict[str, Any]:
        last = "|24:00" if self.end else ""
        return {"type": "string", "pattern": f"^({_CLOCK.pattern}{last})$"}

    def to_internal_value(self, data: Any) -> str:
        text = super().to_internal_value(data)
        if not _CLOCK.fullmatch(text) and not (self.end and text == "24:00"):
            self.fail("clock", last="24:00" if self.end else "23:59")
        return text


class DaysField(serializers.ListField):
    """Weekdays, each once; stored in the order of the week."""

    def __init__(self, **options: Any) -> None:
        day = ChoiceField(choices=DAYS)
        super().__init__(child=day, min_length=1, max_length=len(DAYS), **options)

    def to_internal_value(self, data: Any) -> list[str]:
        days = super().to_internal_value(data)
        if len(set(days)) < len(days):
            raise ValidationError("Name each day once.", code="repeated")
        return sorted(days, key=DAYS.index)


class WindowBody(StrictSerializer):
    """One window: ``days`` it starts on (left out: every day), ``from``, ``to``."""

    days = DaysField(required=False)

    def get_fields(self) -> dict[str, Any]:
        """Add the two whose names Python keeps for itself, or reads better together."""
        return {**super().get_fields(), "from": ClockField(), "to": ClockField(end=True)}

    def validate(self, attrs: Mapping[str, Any]) -> dict[str, Any]:
        if minutes_of(attrs["from"]) == minutes_of(attrs["to"]):
            message = "The window is empty; a whole day is from 00:00 to 24:00."
            raise ValidationError({"to": [ErrorDetail(message, code="empty_window")]})
        return {"days": list(DAYS), **attrs}


class WindowsBody(StrictSerializer):
    """Off-peak windows; an empty list is no restriction, a zone that is left out is UTC."""

    zone = ZoneField(required=False)
    windows = serializers.ListField(child=WindowBody(), max_length=MOST_WINDOWS)

    def validate(self, attrs: Mapping[str, Any]) -> dict[str, Any]:
        return {"zone": attrs.get("zone", "UTC"), "windows": [dict(each) for each in attrs["windows"]]}
