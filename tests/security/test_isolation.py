"""The isolation that docs/isolation.md promises is the isolation that a hostile handler meets."""

from __future__ import annotations

import functools

import pytest

from tests.security.table import COLUMNS, Column, committed, measure, why_not
from workers.sandbox import Level

measured = functools.cache(measure)
NOTHING = {"none", "ENOENT", "ESRCH", "EPERM", "EACCES", "EROFS", "ECONNREFUSED", "sent, never arrives"}
LIMITED = {"MemoryError", "EFBIG", "32 of 200"}


@pytest.mark.parametrize("column", COLUMNS, ids=lambda each: f"{each[0]}{'-own-user' * each[1]}")
def test_the_documented_table_is_what_a_hostile_handler_finds(column: Column) -> None:
    if reason := why_not(column):
        pytest.skip(reason)
    assert measured(column) == committed()[column]


@pytest.mark.parametrize("own_user", [False, True])
def test_a_hostile_handler_gets_nothing_at_level_full(own_user: bool) -> None:
    if reason := why_not((Level.FULL, own_user)):
        pytest.skip(reason)
    results = dict(measured((Level.FULL, own_user)))
    assert results.pop("run a program it wrote") == "allowed"
    assert set(results.values()) <= NOTHING | LIMITED | {"dead"}


@pytest.mark.parametrize("level", list(Level))
def test_no_level_gives_away_memory_descriptors_or_the_supervisors_environment(level: Level) -> None:
    if reason := why_not((level, False)):
        pytest.skip(reason)
    results = measured((level, False))
    for probe, outcome in results.items():
        if "memory" in probe or "descriptors" in probe or "supervisor's variables" in probe:
            assert outcome == "none", probe
        if "of the supervisor" in probe and "kill -9" not in probe:
            assert outcome in NOTHING, probe
