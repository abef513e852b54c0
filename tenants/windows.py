"""Off-peak windows: when batch work may start, by the clock on the wall of a zone. Plain rules.

The rule is one sentence: it is open at an instant when that instant's local time lies in a window. So
an hour that the clock skips in spring is not there to be open in, a window that begins in it opens when
the skipped hour is over, and an hour that the clock shows twice in autumn is open both times.

The stored shape is that of the API::

    {"zone": "Europe/Berlin", "windows": [{"days": ["mon", "fri"], "from": "22:00", "to": "06:00"}]}

A window whose end is before its start goes on into the next day; its days are those it starts on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import cache, lru_cache
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from rest.times import rfc3339

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
WHOLE_DAY = 24 * 60
MOST_WINDOWS = 50
LONGEST_ZONE = 64

_NO_PLACES = {"Factory", "localtime", "posixrules"}
"""Names that a machine's zone data may have which are no place's time."""

_NEAR, _FAR = timedelta(days=2), timedelta(days=22)
"""Where the next change is looked for: most are near. A weekly window that falls into a skipped hour
opens two weeks later; nothing is closed for longer."""

_STEP = timedelta(hours=6)
"""No zone shifts its clock twice within this."""

_SECOND = timedelta(seconds=1)


@cache
def zones() -> frozenset[str]:
    """Return the names of all zones that this machine knows."""
    return frozenset(available_timezones() - _NO_PLACES)


@dataclass(frozen=True, slots=True)
class Window:
    """A span of local time: minutes after midnight, on the weekdays (Monday is 0) it starts on."""

    days: frozenset[int]
    start: int
    end: int

    def covers(self, weekday: int, minute: int) -> bool:
        """Tell whether a minute of a weekday lies in the window; its end does not."""
        if self.start < self.end:
            return weekday in self.days and self.start <= minute < self.end
        yesterday = (weekday - 1) % 7
        return (weekday in self.days and minute >= self.start) or (
            yesterday in self.days and minute < self.end
        )


@dataclass(frozen=True, eq=False)
class Windows:
    """The windows of a lane or a task type; :func:`windows_of` gives equal ones the same object."""

    zone: str
    windows: tuple[Window, ...]
    _clock: tzinfo = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_clock", _clock_of(self.zone))

    def is_open(self, at: datetime) -> bool:
        """Tell whether work may start at an instant."""
        local = at.astimezone(self._clock)
        minute = local.hour * 60 + local.minute
        return any(window.covers(local.weekday(), minute) for window in self.windows)

    def next_change(self, at: datetime) -> datetime | None:
        """Return the first instant after ``at`` at which it opens or closes; None: it never does."""
        now = self.is_open(at)
        for span in (_NEAR, _FAR):
            for moment in sorted(self._moments(at, at + span)):
                if self.is_open(moment) != now:
                    return moment
        return None

    def told(self, at: datetime | None) -> str:
        """Write an instant for people: in UTC and as the clock in the zone shows it."""
        if at is None:
            return "an unknown time"
        local = at.astimezone(self._clock)
        return f"{rfc3339(at)} ({local:%a %H:%M} in {self.zone})"

    def _moments(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """Yield, in no order, all instants in (after, until] at which the answer can change.

        Those are the windows' starts and ends (an end in a skipped hour, or one that comes twice, is
        tried as either), and the shifts of the clock.
        """
        day = after.astimezone(self._clock).date() - timedelta(days=1)
        last = until.astimezone(self._clock).date() + timedelta(days=1)
        edges = {edge for window in self.windows for edge in (window.start, window.end)}
        while day <= last:
            for edge in edges:
                yield from (at for at in self._instants(day, edge) if after < at <= until)
            day += timedelta(days=1)
        yield from self._shifts(after, until)

    def _instants(self, day: date, minute: int) -> Iterator[datetime]:
        days, minute = divmod(minute, WHOLE_DAY)
        wall = datetime.combine(day + timedelta(days=days), time(*divmod(minute, 60)), self._clock)
        for fold in (0, 1):
            yield wall.replace(fold=fold).astimezone(UTC)

    def _shifts(self, after: datetime, until: datetime) -> Iterator[datetime]:
        while after < until:
            later = min(after + _STEP, until)
            if self._offset(after) != self._offset(later):
                yield self._shift_between(after, later)
            after = later

    def _shift_between(self, before: datetime, after: datetime) -> datetime:
        """Return the first full second of the offset that holds at ``after``."""
        before, after = before.replace(microsecond=0), after.replace(microsecond=0) + _SECOND
        while after - before > _SECOND:
            middle = before + timedelta(seconds=(after - before) // _SECOND // 2)
            if self._offset(middle) == self._offset(after):
                after = middle
            else:
                before = middle
        return after

    def _offset(self, at: datetime) -> timedelta | None:
        return at.astimezone(self._clock).utcoffset()


def stored(given: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return what is stored of windows that were given: nothing, where they restrict nothing."""
    return dict(given) if given and given.get("windows") else None


def windows_of(value: Mapping[str, Any] | None) -> Windows | None:
    """Return the windows that were :func:`stored`; None is no restriction."""
    return None if value is None else _read(json.dumps(value, sort_keys=True))


@lru_cache(maxsize=1024)
def first_opening(all_windows: tuple[Windows | None, ...], at: datetime) -> datetime | None:
    """Return the first instant from ``at`` on at which all of them are open; None: unknown."""
    restricting = [windows for windows in all_windows if windows is not None]
    end = at + _FAR
    while at < end:
        closed = next((windows for windows in restricting if not windows.is_open(at)), None)
        if closed is None:
            return at
        opening = closed.next_change(at)
        if opening is None:
            return None
        at = opening
    return None


def state_json(value: Mapping[str, Any] | None, now: datetime) -> dict[str, Any] | None:
    """Return ``{"open", "until"}`` as it is now: ``until`` is when that changes, null for never."""
    windows = windows_of(value)
    if windows is None:
        return None
    return {"open": windows.is_open(now), "until": rfc3339(windows.next_change(now))}


def minutes_of(text: str) -> int:
    """Return the minutes after midnight of ``HH:MM``; ``24:00`` is a day's end."""
    hours, _, minutes = text.partition(":")
    return int(hours) * 60 + int(minutes)


@lru_cache(maxsize=4096)
def _read(text: str) -> Windows:
    value = json.loads(text)
    return Windows(
        value["zone"],
        tuple(
            Window(
                frozenset(DAYS.index(day) for day in window["days"]),
                minutes_of(window["from"]),
                minutes_of(window["to"]),
            )
            for window in value["windows"]
        ),
    )


def _clock_of(zone: str) -> tzinfo:
    """Return a zone's clock. One that this machine has lost the data of is UTC: work must go on."""
    try:
        return ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return UTC
