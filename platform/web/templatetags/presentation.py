"""How values look on a page: durations, times, JSON, the words of a status."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

from django import template
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from rest.times import rfc3339
from tasks.states import TERMINAL, WAITING

register = template.Library()

STATUS_WORDS = {"retry_wait": "waiting to retry"}


@register.filter
def status_words(status: str) -> str:
    """Return a status as people say it."""
    return STATUS_WORDS.get(status, status)


@register.filter
def spaced(code: str | None) -> str:
    """Return a code such as ``handler_error`` as words."""
    return (code or "").replace("_", " ")


@register.filter
def is_terminal(status: str) -> bool:
    """Tell whether a task in this status has ended."""
    return status in TERMINAL


@register.filter
def is_waiting(status: str) -> bool:
    """Tell whether a task in this status waits to run."""
    return status in WAITING


@register.simple_tag
def moment(value: datetime | None, *, absent: str = "–") -> SafeString | str:
    """Return a ``<time>`` that the page's script turns into "3 min ago"; UTC without it."""
    if value is None:
        return absent
    return format_html(
        '<time datetime="{}" title="{} UTC" data-relative>{}</time>',
        rfc3339(value),
        f"{value:%Y-%m-%d %H:%M:%S}",
        f"{value:%Y-%m-%d %H:%M} UTC",
    )


@register.simple_tag
def lasted(start: datetime | None, end: datetime | None, *, absent: str = "–") -> SafeString | str:
    """Return the time from ``start`` to ``end``; it ticks while there is no end yet."""
    if start is None:
        return absent
    if end is not None:
        return duration(end - start)
    return format_html(
        '<span data-since="{}" class="ticking">{}</span>',
        rfc3339(start),
        duration(timezone.now() - start),
    )


def duration(span: timedelta) -> str:
    """Return a span such as ``0.4 s``, ``12 s``, ``3 m 05 s``, ``2 h 07 m``, ``3 d 4 h``."""
    seconds = max(0.0, span.total_seconds())
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} m {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} m"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


@register.filter
def pretty_json(value: Any) -> str:
    """Return indented JSON."""
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)


@register.filter
def bytes_words(count: int | None) -> str:
    """Return a size such as ``3.4 MB``."""
    size = float(count or 0)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return ""


@register.filter
def seconds_words(seconds: float | None) -> str:
    """Return a number of seconds as a duration."""
    return "none" if seconds is None else duration(timedelta(seconds=seconds))


@register.filter
def short_id(value: Any) -> str:
    """Return an id's beginning (to search by) and end (two of one minute share the beginning)."""
    text = str(value)
    return f"{text[:8]}…{text[-4:]}"


@register.filter
def who(name: str) -> str:
    """Return the name without its kind (``user:alice``); the kind is the title's business."""
    return name.partition(":")[2] or name
