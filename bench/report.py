"""What every benchmark tells, in one form: targets with what was reached, tables, and the raw numbers.

A benchmark is a module with ``run(options) -> Report`` and ``command(run)`` as its main program. Started
alone it prints its report; the runner (``python -m bench``) has it written as JSON besides.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Target:
    """One thing that issue or design ask for: what is wanted, what this run reached, both in words.

    ``met`` is None where this run could not show it, as a short one cannot.
    """

    name: str
    wanted: str
    reached: str
    met: bool | None


@dataclass
class Report:
    """What one benchmark found: ``text`` is Markdown, ``raw`` what it was made of."""

    targets: list[Target] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    raw: dict[str, Any] = field(default_factory=dict)

    def at_least(self, name: str, reached: float, wanted: float, form: str = ".2f") -> None:
        """Add a target that is met at ``wanted`` and above."""
        told = format(reached, form)
        self.targets.append(Target(name, f"≥ {wanted:g}", told, reached >= wanted))

    def at_most(
        self, name: str, reached: float, wanted: float, form: str = ".1f", unit: str = ""
    ) -> None:
        """Add a target that is met at ``wanted`` and below."""
        told = f"{format(reached, form)}{unit}"
        self.targets.append(Target(name, f"≤ {wanted:g}{unit}", told, reached <= wanted))

    def say(self, sentence: str) -> None:
        """Add a paragraph."""
        self.text += [sentence, ""]

    def table(self, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Add a table; numbers with a fraction are told to two places below ten, else to one."""
        self.text += [_row(head), _row(["---"] * len(head)), *map(_row, rows), ""]

    def markdown(self) -> str:
        """Return all of it as Markdown."""
        return "\n".join([*target_table(self.targets), *self.text])


def target_table(targets: Sequence[Target]) -> list[str]:
    """Return the lines of the table of targets; none when there are no targets."""
    if not targets:
        return []
    verdicts = {True: "yes", False: "**no**", None: "not shown"}
    rows = [(each.name, each.wanted, each.reached, verdicts[each.met]) for each in targets]
    head = ("target", "wanted", "reached", "met")
    return [_row(head), _row(["---"] * len(head)), *map(_row, rows), ""]


def command(
    run: Callable[[argparse.Namespace], Report],
    about: str | None,
    arguments: Callable[[argparse.ArgumentParser], None] | None = None,
) -> None:
    """Be the main program of a benchmark: measure, print, and write JSON where that is asked for.

    ``arguments`` adds options of its own; all that were given are passed to ``run``.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a short form: does it work at all?")
    parser.add_argument("--json", type=Path, help="also write the report to this file")
    if arguments:
        arguments(parser)
    options = parser.parse_args()
    report = run(options)
    print(report.markdown())
    if options.json:
        options.json.write_text(json.dumps(asdict(report)))


def load(path: Path) -> Report:
    """Read a report that a benchmark has written."""
    found = json.loads(path.read_text())
    return Report([Target(**each) for each in found["targets"]], found["text"], found["raw"])


def _row(cells: Sequence[object]) -> str:
    return f"| {' | '.join(map(_cell, cells))} |"


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.2f}" if abs(value) < 10 else f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
