"""Which queue a task goes to, as plain rules."""

from __future__ import annotations

import re
import time

from hypothesis import given
from hypothesis import strategies as st

from tasks.routing import ORDER, Rule, first_match, fits, is_above
from tasks.states import Queue

few = st.text("ab*", max_size=8)


@given(few, st.text("ab", max_size=10))
def test_a_star_is_any_characters_and_everything_else_is_itself(pattern: str, text: str) -> None:
    expected = re.fullmatch(".*".join(re.escape(part) for part in pattern.split("*")), text)
    assert fits(pattern, text) == bool(expected)


def test_other_signs_of_patterns_are_plain_characters() -> None:
    assert fits("a.b", "a.b")
    assert not fits("a.b", "axb")
    assert not fits("a?", "ab")
    assert not fits("[ab]", "a")
    assert fits("*[x]*", "a[x]b")


def test_beginning_and_end_of_a_pattern_do_not_share_characters() -> None:
    assert fits("aba*ba", "ababa")
    assert not fits("aba*ba", "aba")
    assert not fits("a*a", "a")


def test_many_stars_cost_no_time() -> None:
    began = time.process_time()
    assert not fits("*a" * 50 + "*c", "a" * 255 + "b")
    assert time.process_time() - began < 0.05


def test_critical_is_above_normal_and_normal_above_batch() -> None:
    assert set(ORDER) == set(Queue)
    pairs = [(one, other) for one in ORDER for other in ORDER if is_above(one, other)]
    assert pairs == [("critical", "normal"), ("critical", "batch"), ("normal", "batch")]


def test_a_rule_matches_what_has_all_that_it_asks_for() -> None:
    rule = Rule("r", "batch", 7, "lint.*", {"pr": "47*", "team": "a"}, over=10, under=60)
    labels = {"pr": "4711", "team": "a", "other": "x"}
    assert rule.matches(7, "lint.ruff", labels, 30)
    assert not rule.matches(8, "lint.ruff", labels, 30)
    assert not rule.matches(7, "test.dummy", labels, 30)
    assert not rule.matches(7, "lint.ruff", {"pr": "4711"}, 30)
    assert not rule.matches(7, "lint.ruff", {**labels, "pr": "4611"}, 30)
    assert [rule.matches(7, "lint.ruff", labels, seconds) for seconds in (10, 10.1, 59.9, 60)] == [
        *(False, True, True, False),
    ]


def test_a_length_that_nobody_knows_is_neither_long_nor_short() -> None:
    assert not Rule("r", "batch", over=0).matches(1, "t", {}, None)
    assert not Rule("r", "batch", under=9).matches(1, "t", {}, None)
    assert Rule("r", "batch", type="*").matches(1, "t", {}, None)


def test_the_first_match_decides() -> None:
    rules = [Rule("a", "batch", type="x"), Rule("b", "normal", type="*"), Rule("c", "batch", type="*")]
    found = first_match(rules, 1, "t", {}, None)
    assert found is not None
    assert found.name == "b"
    assert first_match(rules[:1], 1, "t", {}, None) is None
