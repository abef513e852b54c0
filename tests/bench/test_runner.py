"""The runner of the benchmarks: nothing is forgotten, and what fails is shown and hides no other."""

from __future__ import annotations

from dataclasses import asdict
from json import dumps
from pathlib import Path

from bench.__main__ import run_part
from bench.decisions import decision_targets
from bench.parts import BUDGET_SECONDS, PARTS, Part
from bench.report import Report, Target, load
from bench.results import HEAD, RESULTS, Outcome, on_top, section

# What serves benchmarks, and is none.
SERVING = {
    "__main__",
    "accounting",
    "backlog",
    "bare_insert",
    "decisions",
    "parts",
    "platforms",
    "report",
    "results",
    "servers",
}
DECISIONS = """
| backlog | decisions | decisions/s | against all open | round p50 ms |
| --- | --- | --- | --- | --- |
| all open | 9,000 | 30,100 | 1.00 | 16.0 |
| half blocked by limits | 9,000 | 24,000 | 0.80 | 16.0 |
| 10,000 ready | 9,000 | 36,000 | 1.20 | 16.0 |
| a transaction held open 60 s | 9,000 | 16,000 | 0.53 | 16.0 |

A new leader's first look, all open: 210, 220, 300 ms
A leader was killed: a standby led after 1.52 s and had dispatched after 1.71 s
"""


def outcome(part: Part, *, failure: str = "", targets: tuple[Target, ...] = ()) -> Outcome:
    report = Report(list(targets), ["| a | b |", "| --- | --- |", "| 1 | 2 |", ""])
    return Outcome(part, "0.10 0.20 0.30", 12.4, report, failure)


def test_every_benchmark_is_a_part() -> None:
    modules = {path.stem for path in (RESULTS.parent).glob("*.py")}
    names = [part.name for part in PARTS]
    assert len(set(names)) == len(names)
    assert modules - SERVING == set(names)


def test_all_parts_together_are_planned_within_the_budget() -> None:
    assert sum(part.seconds for part in PARTS) <= BUDGET_SECONDS


def test_a_section_tells_targets_first_then_loads_then_details() -> None:
    targets = (
        Target("reached it", "≥ 1", "1.20", True),
        Target("missed it", "≥ 4", "3.10", False),
        Target("did not try", "≤ 5", "2", None),
    )
    part = Part("latency", "From there to here", 10)
    text = section([outcome(part, targets=targets)], date="2026-11-29", command="make bench")
    assert "| reached it | ≥ 1 | 1.20 | yes |" in text
    assert "| missed it | ≥ 4 | 3.10 | **no** |" in text
    assert "| did not try | ≤ 5 | 2 | not shown |" in text
    assert "| latency | 0.10 0.20 0.30 | 12 | ran |" in text
    places = [
        text.index(each) for each in ("`make bench`", "reached it", "| latency", "### From", "| 1 ")
    ]
    assert places == sorted(places)


def test_only_a_whole_run_says_how_long_all_take() -> None:
    whole = section([outcome(part) for part in PARTS], date="", command="")
    assert "| all benchmarks | ≤ 15 min |" in whole
    assert "all benchmarks" not in section([outcome(PARTS[0])], date="", command="")


def test_a_part_that_fails_is_shown_and_hides_no_other() -> None:
    gone = run_part(Part("not_there", "Nothing", 1), quick=True)
    assert "No module named bench.not_there" in gone.failure
    text = section([gone, outcome(PARTS[0])], date="", command="")
    assert "| not_there | " in text
    assert "| FAILED |" in text
    assert gone.failure in text
    assert f"### {PARTS[0].title}" in text


def test_the_newest_section_is_on_top() -> None:
    older = on_top("", "\n## older\n")
    assert on_top(older, "\n## newer\n") == HEAD + "\n## newer\n\n## older\n"
    assert RESULTS.read_text(encoding="utf-8").startswith(HEAD)


def test_a_report_is_the_same_after_it_was_written(tmp_path: Path) -> None:
    report = Report(raw={"a": [1.5]})
    report.at_least("runs/s", 0.59, 0.6)
    report.at_most("p99", 60.0, 60, unit=" ms")
    report.table(("what", "ms"), [("it", 1234.56), ("more", 7), ("less", 0.123)])
    (tmp_path / "report.json").write_text(dumps(asdict(report)))
    assert load(tmp_path / "report.json") == report
    assert [target.met for target in report.targets] == [False, True]
    assert report.text[2:5] == ["| it | 1,234.6 |", "| more | 7 |", "| less | 0.12 |"]


def test_the_dispatchers_targets_are_read_from_its_table() -> None:
    found = {target.name: (target.reached, target.met) for target in decision_targets(DECISIONS)}
    assert found == {
        "decisions/s, all open": ("30,100", True),
        "decisions/s, half blocked by limits, against all open": ("0.8", False),
        "decisions/s, 10,000 ready, against all open": ("1.2", False),
        "decisions/s, a transaction held open 60 s, against all open": ("0.53", True),
        "a new leader's first look, median": ("220 ms", True),
        "a standby leads after a kill": ("1.52 s", True),
    }
    assert decision_targets("nothing was measured") == []
