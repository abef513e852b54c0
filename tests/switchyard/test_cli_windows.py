"""How windows are written on the command line."""

from __future__ import annotations

import pytest
import typer

from switchyard.cli.windows import DAYS, windows_of


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("22:00-06:00", DAYS),
        ("mon-fri@22:00-06:00", DAYS[:5]),
        ("sat,sun@22:00-06:00", DAYS[5:]),
        ("sat-mon@22:00-06:00", ("mon", "sat", "sun")),
        ("mon-sun@22:00-06:00", DAYS),
        ("wed,mon-tue@22:00-06:00", DAYS[:3]),
        ("fri-fri@22:00-06:00", ("fri",)),
    ],
)
def test_days_and_times_are_read(text: str, days: tuple[str, ...]) -> None:
    assert windows_of([text]) == [{"days": list(days), "from": "22:00", "to": "06:00"}]


@pytest.mark.parametrize(
    "text", ["", "22-06", "22:00", "x@22:00-06:00", "mon-@22:00-06:00", "mon@", "-mon@22:00-06:00"]
)
def test_what_is_no_window_is_a_usage_error(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        windows_of([text])
