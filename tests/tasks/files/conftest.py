"""Files of tasks, kept in a folder of each test's own."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.core.files.storage import FileSystemStorage, storages

from tests.tasks.api.conftest import (
    acme,
    lasting_world,
    the_trail_may_be_emptied_between_tests,
    world,
)
from tests.tasks.conftest import tenant

__all__ = ["acme", "lasting_world", "tenant", "the_trail_may_be_emptied_between_tests", "world"]


@pytest.fixture(autouse=True)
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep files below this folder, and return it."""
    folder = tmp_path / "files"
    monkeypatch.setitem(storages._storages, "files", FileSystemStorage(location=folder))
    return folder


def contents(folder: Path) -> int:
    """Return how many files the storage holds."""
    return sum(path.is_file() for path in folder.rglob("*"))
