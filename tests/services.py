"""One embedded PostgreSQL and Valkey for the whole test session, before Django reads its settings.

Loaded by ``-p tests.services``. The first process starts the pair and exports its addresses; with
xdist that is the controller, and the workers inherit them (each has a test database of its own from
pytest-django, and a Valkey database of its own from here). Already set ``DATABASE_URL`` and
``REDIS_URL`` are used instead. The pair ends with its standard input, so that it cannot outlive
even a killed test run, and removes its folder itself.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
READY_SECONDS = 60.0
STOP_SECONDS = 30.0
SETTINGS = {
    "SWITCHYARD_SECRET_KEY": "only-for-tests-" + "0" * 40,
    "SWITCHYARD_ENCRYPTION_KEYS": "dGVzdC1vbmx5LWtleS10ZXN0LW9ubHkta2V5LTAwMDA=",
    "SWITCHYARD_TEST_TASK_TYPES": "1",
    "SWITCHYARD_ROLE": "manage",
    "SWITCHYARD_LOG_FORMAT": "console",
    "SWITCHYARD_PUBLIC_URL": "http://testserver",
    "SWITCHYARD_ALLOWED_HOSTS": "testserver,localhost,127.0.0.1,[::1]",
    # The other roles give a silent database up by themselves; here a lock that nobody releases would
    # say no more than that a test took too long.
    "PGOPTIONS": "-c lock_timeout=60s",
}

_pair: subprocess.Popen[str] | None = None
_folder: Path | None = None


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests() -> Generator[None]:
    """Start the servers before any conftest, and before pytest-django reads the settings."""
    _export()
    return (yield)


def pytest_unconfigure() -> None:
    """Stop the servers at the end of the session and remove their folder."""
    global _pair, _folder
    if _pair is not None and _pair.stdin is not None:
        _pair.stdin.close()
        try:
            _pair.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            _pair.kill()
        _pair = None
    if _folder is not None:
        shutil.rmtree(_folder, ignore_errors=True)
        _folder = None


def _export() -> None:
    """Set the environment of this process and of all that it starts."""
    global _folder
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if worker.startswith("gw"):
        # Two databases for each worker; 0 and 1 are the controller's.
        base = os.environ["SWITCHYARD_TEST_REDIS"]
        number = int(worker[2:]) + 1
        os.environ["REDIS_URL"] = base.replace("db=1", f"db={2 * number + 1}")
        os.environ["BROKER_URL"] = os.environ["SWITCHYARD_TEST_BROKER"].replace(
            "virtual_host=0", f"virtual_host={2 * number}"
        )
    elif not (os.environ.get("DATABASE_URL") and os.environ.get("REDIS_URL")):
        _folder = Path(tempfile.mkdtemp(prefix="switchyard-tests-"))
        os.environ["SWITCHYARD_STATE"] = str(_folder / "state")
        (_folder / "state").mkdir()
        addresses = _start(_folder)
        os.environ["DATABASE_URL"] = addresses["database_url"]
        os.environ["REDIS_URL"] = addresses["redis_url"]
        os.environ["BROKER_URL"] = addresses["broker_url"]
        os.environ["SWITCHYARD_TEST_REDIS"] = addresses["redis_url"]
        os.environ["SWITCHYARD_TEST_BROKER"] = addresses["broker_url"]


def _start(folder: Path) -> dict[str, str]:
    """Start the pair and return its addresses; ends the session when it does not come up."""
    global _pair
    log = folder / "pair.log"
    with log.open("w") as errors:
        _pair = subprocess.Popen(
            [sys.executable, "-m", "ops.embedded.pair", str(folder), "--temporary"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT / "platform")},
            # Ctrl-C is for pytest; the pair ends when pytest closes its input.
            start_new_session=True,
        )
    assert _pair.stdout is not None
    readable, _, _ = select.select([_pair.stdout], [], [], READY_SECONDS)
    line = _pair.stdout.readline() if readable else ""
    if not line:
        told = log.read_text()
        pytest_unconfigure()
        raise pytest.UsageError(f"The test servers did not start.\n{told}")
    addresses: dict[str, str] = json.loads(line)
    return addresses
