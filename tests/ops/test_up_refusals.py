"""What `up` says when it cannot even begin: one sentence and exit 1, in front and in the background."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.platforms import ROOT


def environment(**settings: str) -> dict[str, str]:
    """This process's own, without the settings of the test session."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("SWITCHYARD_") and not name.endswith(("_URL", "DJANGO_SETTINGS_MODULE"))
    }
    return kept | settings


def up(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run `up` to its end."""
    return subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), "up", *arguments],
        env=environment(**settings),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("how", [[], ["--detach"], ["--stop"]])
def test_a_lock_that_cannot_be_opened_is_told(tmp_path: Path, how: list[str]) -> None:
    (tmp_path / "lock").mkdir()
    done = up("--state", str(tmp_path), *how)
    assert done.returncode == 1
    assert done.stdout.startswith(f"switchyard: {tmp_path / 'lock'} cannot be used (Is a directory)")
    assert done.stdout.count("\n") == 1


@pytest.mark.parametrize("how", [[], ["--detach"]])
def test_a_lock_that_cannot_be_written_is_told(tmp_path: Path, how: list[str]) -> None:
    # It opens and can be locked, and takes not a byte.
    (tmp_path / "lock").symlink_to("/dev/full")
    done = up("--state", str(tmp_path), *how)
    assert done.returncode == 1
    assert done.stdout.startswith(f"switchyard: {tmp_path / 'lock'} cannot be used (")
    assert done.stdout.count("\n") == 1


def test_a_database_that_cannot_be_reached_is_told_by_its_address(tmp_path: Path) -> None:
    done = up(
        *("--state", str(tmp_path / "state"), "--port", "0", "--no-welcome"),
        DATABASE_URL="postgresql://jobs:hidden@127.0.0.1:9/jobs",
        REDIS_URL="redis://127.0.0.1:9/0",
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stdout
    (told,) = (line for line in done.stdout.splitlines() if line.startswith("switchyard: "))
    assert "127.0.0.1:9" in told
    assert "DATABASE_URL" in told
    assert "Connection refused" in told
    assert "hidden" not in done.stdout
    assert "log" not in told


def test_ctrl_c_of_a_management_command_is_no_traceback() -> None:
    command = (
        "import runpy, sys, time, signal, os; sys.argv = ['manage.py', 'check'];"
        "import django.core.management as m;"
        "m.execute_from_command_line = lambda _: os.kill(os.getpid(), signal.SIGINT) or time.sleep(30);"
        "runpy.run_path('manage.py', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", command],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (130, "")


def test_ctrl_c_of_up_before_it_watches_is_no_traceback(tmp_path: Path) -> None:
    command = (
        "import runpy, sys, time, signal, os; sys.argv = ['manage.py', 'up', '--state', sys.argv[1]];"
        "sys.path.insert(0, 'platform');"
        "import ops.up.state as s;"
        "s.State.lock = lambda _: os.kill(os.getpid(), signal.SIGINT) or time.sleep(30);"
        "runpy.run_path('manage.py', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", command, str(tmp_path)],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (130, "")
