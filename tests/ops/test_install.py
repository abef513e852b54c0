"""`make install` where it cannot be done: a sentence, never a traceback."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ops import install
from tests.conftest import Eventually


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A checkout with what the installation reads, and nothing installed."""
    for name in ("requirements.txt", "pyproject.toml", "platform/ops/install.py"):
        target = tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(install.ROOT / name, target)
    return tmp_path


def started(copy: Path) -> subprocess.Popen[str]:
    """The installation of that checkout."""
    return subprocess.Popen(
        [sys.executable, "-I", str(copy / "platform" / "ops" / "install.py")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_what_stands_where_the_environment_belongs_is_told(copy: Path) -> None:
    (copy / ".venv").write_text("somebody's own")
    process = started(copy)
    told, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert told.count("\n") == 1
    assert told.startswith("switchyard: ")
    assert str(copy / ".venv") in told
    assert "Not a directory" in told


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "No space left on device"),
        (errno.EACCES, "belongs to somebody else: remove it"),
        (errno.EPERM, "belongs to somebody else: remove it"),
    ],
)
def test_a_full_disk_and_an_environment_of_somebody_else_are_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int, advice: str
) -> None:
    def fails(_scratch: Path) -> None:
        raise OSError(number, os.strerror(number), "/srv/switchyard/.venv/.installed")

    monkeypatch.setattr(install, "_is_current", lambda: False)
    monkeypatch.setattr(install, "_install", fails)
    before = os.umask(0o022)
    try:
        assert install.main() == 1
    finally:
        os.umask(before)
    told = capsys.readouterr().err
    assert told.startswith("switchyard: ")
    assert "/srv/switchyard/.venv/.installed" in told
    assert advice in told


def test_ctrl_c_is_no_traceback(copy: Path, eventually: Eventually) -> None:
    folder = os.open(copy, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        process = started(copy)
        eventually(lambda: waits_for_a_lock(process.pid))
        process.send_signal(signal.SIGINT)
        told, _ = process.communicate(timeout=30)
    finally:
        os.close(folder)
    assert process.returncode == 130
    assert told.startswith("switchyard: interrupted")
    assert told.count("\n") == 1


def waits_for_a_lock(pid: int) -> bool:
    """Whether a process stands in flock(2): the kernel lists who waits behind an arrow."""
    lines = Path("/proc/locks").read_text().splitlines()
    return any("->" in line and f" {pid} " in line for line in lines)
