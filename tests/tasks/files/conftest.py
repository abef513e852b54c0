"""Files of tasks, kept in a folder of each test's own."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.core.files.storage import FileSystemStorage, storages


@pytest.fixture(autouse=True)
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep files below this folder, and return it."""
    folder = tmp_path / "files"
    monkeypatch.setitem(storages._storages, "files", FileSystemStorage(location=folder))
    return folder


def contents(folder: Path) -> int:
    """Return how many files the storage holds."""
    return sum(path.is_file() for path in folder.rglob("*"))
