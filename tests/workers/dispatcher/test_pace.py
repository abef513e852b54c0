"""When chores are done: after events, without them, and never for more than their share of the time."""

from __future__ import annotations

import pytest

from workers.dispatcher.pace import Chore, Pace


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def do(pace: Pace, clock: Clock, name: str, seconds: float) -> None:
    with pace.doing(name):
        clock.now += seconds


def test_all_are_due_at_first_and_then_as_often_as_they_say(clock: Clock) -> None:
    pace = Pace({"look": Chore(4.0)}, clock)
    assert pace.is_due("look")
    do(pace, clock, "look", 0.0)
    assert not pace.is_due("look")
    assert pace.patience() == pytest.approx(4.0)
    clock.now += 4.0
    assert pace.is_due("look")


def test_what_is_nearly_due_shares_the_round(clock: Clock) -> None:
    pace = Pace({"look": Chore(4.0)}, clock)
    do(pace, clock, "look", 0.0)
    clock.now += 2.9
    assert not pace.is_due("look")
    clock.now += 0.2
    assert pace.is_due("look")


def test_an_event_makes_a_chore_due_once(clock: Clock) -> None:
    pace = Pace({"look": Chore(4.0)}, clock)
    do(pace, clock, "look", 0.0)
    pace.ask("look")
    assert pace.is_due("look")
    assert pace.patience() == 0
    do(pace, clock, "look", 0.0)
    assert not pace.is_due("look")


def test_whoever_asks_a_chore_takes_no_more_than_its_share_of_the_time(clock: Clock) -> None:
    pace = Pace({"look": Chore(0.5, share=0.05), "count": Chore(100.0)}, clock)
    do(pace, clock, "count", 0.0)
    began, spent = clock.now, 0.0
    while clock.now < began + 1000:
        pace.ask("look")
        if pace.is_due("look"):
            do(pace, clock, "look", 1.0)
            spent += 1.0
        else:
            # It waits for just as long as it must.
            clock.now += max(0.1, pace.patience() if not pace.is_due("count") else 0.1)
    assert 45 <= spent <= 51


def test_an_event_during_a_rest_is_not_forgotten(clock: Clock) -> None:
    pace = Pace({"look": Chore(60.0, share=0.1)}, clock)
    do(pace, clock, "look", 1.0)
    pace.ask("look")
    assert not pace.is_due("look")
    assert pace.patience() == pytest.approx(9.0)
    clock.now += 9.0
    assert pace.is_due("look")
