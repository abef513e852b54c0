"""Finds the dispatcher's targets in the table that ``bench.dispatcher`` prints."""

from __future__ import annotations

import re

from bench.report import Target

RATE, AGAINST = "decisions/s", "against all open"


def decision_targets(text: str) -> list[Target]:
    """Return the targets of issue and design that the printed rows decide."""
    rows = _rows(text)
    found = []
    if base := rows.get("all open"):
        rate = float(base[RATE].replace(",", ""))
        found.append(Target("decisions/s, all open", "≥ 25,000", f"{rate:,.0f}", rate >= 25_000))
    for name, low, high, wanted in (
        ("half blocked by limits", 0.9, None, "≥ 0.9"),
        ("10,000 ready", 0.9, 1.1, "0.9 to 1.1"),
        ("a transaction held open", 0.5, None, "> 0.5"),
    ):
        for label, row in rows.items():
            if label.startswith(name):
                ratio = float(row[AGAINST])
                met = ratio >= low and (high is None or ratio <= high)
                found.append(Target(f"decisions/s, {label}, against all open", wanted, f"{ratio}", met))
    if looks := re.search(r"first look[^:]*: ([\d., ]+) ms", text):
        times = sorted(float(each) for each in looks[1].split(","))
        middle = times[len(times) // 2]
        found.append(
            Target("a new leader's first look, median", "≤ 250 ms", f"{middle:g} ms", middle <= 250)
        )
    if led := re.search(r"standby led after ([\d.]+) s", text):
        found.append(Target("a standby leads after a kill", "≤ 5 s", f"{led[1]} s", float(led[1]) <= 5))
    return found


def _rows(text: str) -> dict[str, dict[str, str]]:
    """Each row of the first table, by its first cell; cells by the names of their columns."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    if len(lines) < 3:
        return {}
    head = _cells(lines[0])
    return {_cells(line)[0]: dict(zip(head, _cells(line), strict=False)) for line in lines[2:]}


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]
