"""A whole platform, started as a user starts it, for tests that go through the public API."""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

from ops.supervision.processes import children, descendants

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 150.0
STOP_SECONDS = 90.0

# Every time constant shortened by settings, never by changing code. Not so short
# that a busy machine passes them: a message that is claimed later than its timeout runs nothing.
SHORT_TIMES = {
    "SWITCHYARD_LEASE": "4",
    "SWITCHYARD_HEARTBEAT": "1",
    "SWITCHYARD_DISPATCH_TIMEOUT": "5",
    "SWITCHYARD_CANCEL_GRACE": "2",
    "SWITCHYARD_DRAIN": "2",
    "SWITCHYARD_UPLOAD_TIMEOUT": "15",
    "SWITCHYARD_TEST_TASK_TYPES": "1",
}
# How each component's command line is recognised.
MARKS = {
    "web": "ops.up.serve",
    "dispatcher": "manage.py dispatch",
    "beat": "-m workers beat",
    "system": "-Q system",
    "pools": "manage.py pools",
    "critical": "-Q critical",
    "normal": "-Q normal",
    "batch": "-Q batch",
    "postgres": "/bin/postgres -D",
    "valkey": "valkey-server",
}
POOLS = ("critical", "normal", "batch")
_virtual_hosts = itertools.count()


@dataclass
class Platform:
    """One running platform; made by :func:`start_platform`."""

    state: Path
    environment: dict[str, str]
    credentials: dict[str, Any] = field(default_factory=dict)
    #: What `up` is started by: a command that runs the one that follows it.
    within: Sequence[str] = ()

    @property
    def url(self) -> str:
        """Its address."""
        return str(self.credentials["url"])

    @property
    def tenant(self) -> str:
        """The slug of its first tenant."""
        return str(self.credentials["tenant"])

    def client(self, token: str | None = None) -> httpx2.Client:
        """Return a client of the first tenant's API (paths are relative to the tenant)."""
        return httpx2.Client(
            base_url=f"{self.url}/api/v1/tenants/{self.tenant}/",
            headers={"Authorization": f"Bearer {token or self.credentials['token']}"},
            timeout=60,
            trust_env=False,
        )

    def operator(self) -> httpx2.Client:
        """Return a client with the platform operator's token (paths are relative to /api/v1/)."""
        return httpx2.Client(
            base_url=f"{self.url}/api/v1/",
            headers={
                "Authorization": f"Bearer {self.credentials['operator_token']}",
                "X-Operator-Reason": "test",
            },
            timeout=60,
            trust_env=False,
        )

    @property
    def supervisor(self) -> int:
        """The process id of `up`."""
        return int(json.loads((self.state / "lock").read_text())["pid"])

    def pid(self, name: str) -> int:
        """Return the main process of a component, a pool's first worker, or an embedded server.

        Raises:
            AssertionError: when it does not run (usable with ``eventually``).
        """
        above = self.pid("pools") if name in POOLS else self.supervisor
        for pid in children(above):
            if MARKS[name] in command_line(pid):
                return pid
        raise AssertionError(f"{name} does not run")

    def signal(self, name: str, number: signal.Signals = signal.SIGKILL) -> int:
        """Send a signal to a component's main process; return its process id."""
        pid = self.pid(name)
        os.kill(pid, number)
        return pid

    def wait_for_another(self, name: str, old: int, *, seconds: float = 30.0) -> int:
        """Wait until another process does the component's work; return its id."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                pid = self.pid(name)
            except (AssertionError, OSError, ValueError):
                pid = old
            if pid != old:
                return pid
            time.sleep(0.05)
        raise AssertionError(f"{name} did not come back within {seconds} s")

    def processes(self) -> list[int]:
        """Return every process of the platform, the supervisor first."""
        return [self.supervisor, *descendants(self.supervisor)]

    def log(self, name: str) -> str:
        """Return a component's log."""
        return (self.state / "logs" / f"{name}.log").read_text(errors="replace")

    def up(self, *arguments: str, seconds: float = START_SECONDS) -> subprocess.CompletedProcess[str]:
        """Run `up` with this platform's state and environment."""
        return subprocess.run(
            [
                *(*self.within, sys.executable, str(ROOT / "manage.py")),
                *("up", "--state", str(self.state), *arguments),
            ],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
        )

    def start(self) -> None:
        """Start it and wait until it is ready."""
        done = self.up("--detach", "--port", "0")
        assert done.returncode == 0, done.stdout
        self.credentials = json.loads((self.state / "credentials.json").read_text())

    def stop(self) -> None:
        """Stop it and wait until it has gone."""
        done = self.up("--stop", seconds=STOP_SECONDS)
        assert done.returncode == 0, done.stdout


def command_line(pid: int) -> str:
    """Return a process's command line; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def start_platform(state: Path, *, within: Sequence[str] = (), **settings: str) -> Platform:
    """Start a platform with short times; ``settings`` are further environment variables.

    ``within`` is a command that starts it, for a surrounding of its own.
    ``SWITCHYARD_E2E_BROKER_URL`` in the environment of the test run replaces the embedded broker: a URL
    without a path, to which every platform adds the number of a virtual host of its own.
    """
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("SWITCHYARD_")
        and name not in ("DATABASE_URL", "REDIS_URL", "BROKER_URL", "DJANGO_SETTINGS_MODULE")
    }
    environment |= SHORT_TIMES | settings
    if broker := os.environ.get("SWITCHYARD_E2E_BROKER_URL"):
        environment.setdefault("BROKER_URL", f"{broker}/{next(_virtual_hosts)}")
    platform = Platform(state, environment, within=within)
    platform.start()
    return platform


def put_prepared_state(state: Path) -> None:
    """Put there what a first start has made: a migrated database, a tenant, a user and tokens.

    That takes three times as long as any other start, so it is done once for all processes of a test
    session. A session that was given its servers has no folder for it, and every start is a first one.
    """
    session = os.environ.get("SWITCHYARD_STATE")
    if session is None or not session.startswith(tempfile.gettempdir()):
        return
    prepared = Path(session).with_name("prepared")
    with prepared.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not prepared.exists():
            draft = prepared.with_name("draft")
            start_platform(draft).stop()
            draft.rename(prepared)
    # Its owners are kept, which copying in Python would not do.
    subprocess.run(["cp", "-a", str(prepared), str(state)], check=True)
    (state / "ports.json").unlink()
    for log in (state / "logs").iterdir():
        log.unlink()


@contextmanager
def temporary_platform(
    name: str, *, first_start: bool = False, within: Sequence[str] = (), **settings: str
) -> Iterator[Platform]:
    """Start a platform in a temporary folder named after ``name``; stop it and remove the folder.

    With ``first_start`` there is nothing before it. ``within`` and ``settings`` are those of
    :func:`start_platform`.
    """
    folder = Path(tempfile.mkdtemp(prefix=f"switchyard-{name}-"))
    try:
        if not first_start:
            put_prepared_state(folder / "state")
        running = start_platform(folder / "state", within=within, **settings)
        try:
            yield running
        finally:
            running.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def platform() -> Iterator[Platform]:
    """A running platform that all tests of this session share; tests make tenants of their own."""
    with temporary_platform("e2e") as running:
        yield running
