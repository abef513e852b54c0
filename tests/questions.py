"""Counting round trips to PostgreSQL, whether Django's cursors ask or `rest.statements`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from rest.patience import PatientConnection


@contextmanager
def questions() -> Iterator[list[None]]:
    """Give a list that grows by one with each question of this process while the block lasts."""
    asked: list[None] = []
    wait = PatientConnection.wait

    def counted(session: PatientConnection, gen: Any, *times: float) -> Any:
        asked.append(None)
        return wait(session, gen, *times)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PatientConnection, "wait", counted)
        yield asked
