"""Off-peak windows as a plain rule: by the clock on the wall, over midnight, and when it is set."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenants.windows import (
    DAYS,
    Windows,
    first_opening,
    minutes_of,
    state_json,
    stored,
    windows_of,
    zones,
)

MINUTE = timedelta(minutes=1)
STRANGE = (
    "Europe/Berlin",
    "Australia/Lord_Howe",  # sets its clock by half an hour
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "America/Havana",  # skips midnight
    "Africa/Casablanca",
    "Pacific/Chatham",
    "UTC",
)


def made(*windows: str, zone: str = "Europe/Berlin", days: tuple[str, ...] = DAYS) -> Windows:
    """Return windows that are written as ``22:00-06:00``."""
    spans = [dict(zip(("from", "to"), each.split("-"), strict=True)) for each in windows]
    found = windows_of({"zone": zone, "windows": [{"days": list(days), **span} for span in spans]})
    assert found is not None
    return found


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def open_spans(windows: Windows, start: str, end: str) -> list[tuple[str, str]]:
    """Return when it is open, minute by minute, by the rule itself and not by what it says is next."""
    at, last, spans, since = utc(start), utc(end), [], None
    while at <= last:
        if windows.is_open(at) and since is None:
            since = at
        elif not windows.is_open(at) and since is not None:
            spans.append((f"{since:%m-%dT%H:%M}", f"{at:%m-%dT%H:%M}"))
            since = None
        at += MINUTE
    return spans


def spans_of_changes(windows: Windows, start: str, end: str) -> list[tuple[str, str]]:
    """Return the same from what it says is next."""
    changes = []
    at: datetime | None = utc(start)
    while at is not None and (at := windows.next_change(at)) is not None and at <= utc(end):
        changes.append(f"{at:%m-%dT%H:%M}")
    return list(zip(changes[::2], changes[1::2], strict=True))


def test_it_is_open_from_the_first_minute_and_not_in_the_last() -> None:
    windows = made("09:00-17:00", zone="UTC")
    at = [utc(f"2026-11-25T{time}") for time in ("08:59:59", "09:00", "16:59:59", "17:00")]
    assert [windows.is_open(each) for each in at] == [False, True, True, False]


def test_a_window_over_midnight_belongs_to_the_day_that_it_starts_on() -> None:
    # 2026-11-27 is a Friday.
    windows = made("22:00-06:00", zone="UTC", days=("fri",))
    assert open_spans(windows, "2026-11-26T00:00", "2026-11-30T00:00") == [
        ("11-27T22:00", "11-28T06:00")
    ]
    assert windows.next_change(utc("2026-11-28T06:00")) == utc("2026-12-04T22:00")


def test_several_windows_that_touch_are_one() -> None:
    windows = made("22:00-24:00", "00:00-06:00", zone="UTC")
    assert windows.next_change(utc("2026-11-25T22:30")) == utc("2026-11-26T06:00")


def test_what_is_always_open_never_changes() -> None:
    assert made("00:00-24:00").next_change(utc("2026-03-28T12:00")) is None


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        # On 2026-03-29 Berlin's clock goes from 02:00 to 03:00, at 01:00 UTC.
        ("22:00-06:00", [("03-28T21:00", "03-29T04:00")]),
        ("02:00-03:00", []),
        ("02:30-04:00", [("03-29T01:00", "03-29T02:00")]),
        ("01:30-02:30", [("03-29T00:30", "03-29T01:00")]),
    ],
)
def test_the_hour_that_spring_skips_is_not_there_to_be_open_in(
    window: str, expected: list[tuple[str, str]]
) -> None:
    night = ("2026-03-28T12:00", "2026-03-29T12:00")
    assert open_spans(made(window), *night) == expected
    assert spans_of_changes(made(window), *night) == expected


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        # On 2026-10-25 Berlin's clock goes back from 03:00 to 02:00, at 01:00 UTC.
        ("22:00-06:00", [("10-24T20:00", "10-25T05:00")]),
        ("02:00-03:00", [("10-25T00:00", "10-25T02:00")]),
        ("02:30-03:00", [("10-25T00:30", "10-25T01:00"), ("10-25T01:30", "10-25T02:00")]),
        ("01:30-02:30", [("10-24T23:30", "10-25T00:30"), ("10-25T01:00", "10-25T01:30")]),
    ],
)
def test_the_hour_that_autumn_shows_twice_is_open_twice(
    window: str, expected: list[tuple[str, str]]
) -> None:
    night = ("2026-10-24T12:00", "2026-10-25T12:00")
    assert open_spans(made(window), *night) == expected
    assert spans_of_changes(made(window), *night) == expected


def test_a_zone_of_half_hours_is_met_to_the_minute() -> None:
    windows = made("22:00-06:00", zone="Asia/Kolkata")
    assert windows.next_change(utc("2026-11-25T12:00")) == utc("2026-11-25T16:30")
    assert windows.next_change(utc("2026-11-25T16:30")) == utc("2026-11-26T00:30")


def test_a_clock_that_is_set_by_half_an_hour_is_met_to_the_minute() -> None:
    # On 2026-04-05 Lord Howe's goes back from 02:00 to 01:30, at 15:00 UTC the day before.
    windows = made("01:30-02:00", zone="Australia/Lord_Howe")
    night = ("2026-04-04T12:00", "2026-04-04T20:00")
    assert open_spans(windows, *night) == [("04-04T14:30", "04-04T15:30")]
    assert spans_of_changes(windows, *night) == [("04-04T14:30", "04-04T15:30")]


def test_a_weekly_window_in_a_skipped_hour_opens_the_week_after() -> None:
    windows = made("02:00-03:00", days=("sun",))
    assert windows.next_change(utc("2026-03-22T02:00")) == utc("2026-04-05T00:00")


clocks = st.integers(0, 24 * 60).map(lambda minute: f"{minute // 60:02}:{minute % 60:02}")
spans = st.tuples(clocks, clocks).filter(lambda span: span[0] != span[1] and span[0] != "24:00")


@st.composite
def some_windows(draw: st.DrawFn) -> Windows:
    windows = [
        {"days": draw(st.lists(st.sampled_from(DAYS), min_size=1, unique=True)), "from": a, "to": b}
        for a, b in draw(st.lists(spans, min_size=1, max_size=3))
    ]
    found = windows_of({"zone": draw(st.sampled_from(STRANGE)), "windows": windows})
    assert found is not None
    return found


# Around the nights on which one of these zones sets its clock, and any other time.
moments = st.one_of(
    st.sampled_from(
        [
            "2026-03-07",
            "2026-03-28",
            "2026-04-04",
            "2026-09-26",
            "2026-10-03",
            "2026-10-24",
            "2026-11-01",
        ]
    ).flatmap(lambda day: st.integers(0, 2880).map(lambda minutes: utc(day) + minutes * MINUTE)),
    st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC)),
)


@settings(max_examples=150, deadline=None)
@given(some_windows(), moments)
def test_the_next_change_is_the_first_minute_at_which_the_answer_is_another(
    windows: Windows, at: datetime
) -> None:
    change = windows.next_change(at)
    now = windows.is_open(at)
    minute = at.replace(second=0, microsecond=0)
    for number in range(1, 2 * 24 * 60):
        if windows.is_open(minute + number * MINUTE) != now:
            assert change == minute + number * MINUTE
            return
    assert change is None or change > minute + (2 * 24 * 60 - 1) * MINUTE


@settings(max_examples=200, deadline=None)
@given(some_windows(), moments)
def test_it_is_open_exactly_when_the_clock_on_the_wall_is_in_a_window(
    windows: Windows, at: datetime
) -> None:
    wall = at.astimezone(ZoneInfo(windows.zone))
    minute, today = wall.hour * 60 + wall.minute, wall.weekday()
    expected = False
    for window in windows.windows:
        late = minute + 24 * 60
        end = window.end if window.end > window.start else window.end + 24 * 60
        expected |= today in window.days and window.start <= minute < end
        expected |= (today - 1) % 7 in window.days and window.start <= late < end
    assert windows.is_open(at) == expected


@settings(max_examples=50, deadline=None)
@given(some_windows(), some_windows(), moments)
def test_the_first_opening_of_two_is_the_first_instant_at_which_both_are_open(
    one: Windows, two: Windows, at: datetime
) -> None:
    found = first_opening((one, None, two), at)
    if found is None:
        return
    assert one.is_open(found)
    assert two.is_open(found)
    assert found >= at
    earlier = found - MINUTE
    if found > at:
        assert earlier < at or not (one.is_open(earlier) and two.is_open(earlier))


def test_no_windows_are_no_restriction() -> None:
    assert stored(None) is None
    assert stored({"zone": "UTC", "windows": []}) is None
    assert windows_of(None) is None
    assert state_json(None, utc("2026-11-25T12:00")) is None
    assert first_opening((None, None), utc("2026-11-25T12:00")) == utc("2026-11-25T12:00")


def test_equal_windows_are_one_object() -> None:
    value: dict[str, Any] = {
        "zone": "UTC",
        "windows": [{"days": ["mon"], "from": "01:00", "to": "02:00"}],
    }
    assert windows_of(value) is windows_of(dict(reversed(value.items())))


def test_a_zone_whose_data_this_machine_has_lost_is_read_as_utc() -> None:
    lost = windows_of(
        {"zone": "Mars/Phobos", "windows": [{"days": ["wed"], "from": "09:00", "to": "10:00"}]}
    )
    assert lost is not None
    assert lost.is_open(utc("2026-11-25T09:30"))


def test_the_list_of_zones_has_places_and_no_files() -> None:
    assert {"Europe/Berlin", "UTC", "Asia/Kolkata"} <= zones()
    assert not {"localtime", "posixrules", "Factory"} & zones()
    assert not [name for name in zones() if name.startswith(("/", ".", "posix/", "right/"))]
    assert minutes_of("24:00") == 1440
