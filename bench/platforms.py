"""A whole platform for a benchmark, started and stopped by ``manage.py up`` as a user does it.

Embedded PostgreSQL (with fsync) and Valkey, web, dispatcher, pools with their pooler, beat, system
worker. A benchmark asks it over HTTP and looks at its tables; nothing of it is replaced.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg

from bench.servers import ROOT, Client, request_bytes

START_SECONDS = 180.0
STOP_SECONDS = 120.0
# Of the environment only what has nothing to do with another platform.
OURS = ("SWITCHYARD_",)
SERVERS = ("DATABASE_URL", "REDIS_URL", "BROKER_URL", "DJANGO_SETTINGS_MODULE")

# The row of `inflight` is gone when a run has ended; behind it, and out of the measured time, a trigger
# keeps when it was made.
KEEP_DISPATCHED = """
CREATE TABLE IF NOT EXISTS bench_dispatched (task_id uuid PRIMARY KEY, at timestamptz NOT NULL);
CREATE OR REPLACE FUNCTION bench_keep() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN INSERT INTO bench_dispatched VALUES (OLD.task_id, OLD.dispatched_at); RETURN NULL; END $$;
CREATE OR REPLACE TRIGGER bench_keep AFTER DELETE ON inflight
  FOR EACH ROW EXECUTE FUNCTION bench_keep();
"""


@dataclass(frozen=True)
class Platform:
    """A running platform: the credentials that `up` wrote, and the process id of `up`."""

    state: Path
    credentials: dict[str, Any]
    pid: int

    @property
    def port(self) -> int:
        """Where its web process listens."""
        port = urlsplit(str(self.credentials["url"])).port
        assert port is not None
        return port

    @property
    def database_url(self) -> str:
        """Its PostgreSQL, by TCP."""
        return str(self.credentials["database_url"])

    @property
    def redis_url(self) -> str:
        """Its Valkey, by TCP: the broker's database."""
        return str(self.credentials["broker_url"])

    def database(self) -> psycopg.Connection[Any]:
        """Return a connection of our own, in autocommit."""
        return psycopg.connect(self.database_url, autocommit=True, application_name="bench")

    def submission(
        self, type: str, params: object, *, tenant: str = "", token: str = "", **more: object
    ) -> bytes:
        """Return the bytes of one POST of a task; ``more`` are further fields of it."""
        return request_bytes(
            "POST",
            f"/api/v1/tenants/{tenant or self.credentials['tenant']}/tasks",
            token or self.credentials["token"],
            {"type": type, "params": params, **more},
        )

    def operate(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """Ask a path below /api/v1/ as the operator; gives the answer.

        Raises:
            RuntimeError: when the answer is no success.
        """
        client = Client(self.port)
        request = request_bytes(method, f"/api/v1/{path}", self.credentials["operator_token"], body)
        head, rest = request.split(b"\r\n", 1)
        status, answer, _ = client.ask(head + b"\r\nX-Operator-Reason: benchmark\r\n" + rest)
        client.close()
        if status >= 300:
            raise RuntimeError(f"{method} {path}: {status} {answer[:500]!r}")
        found: dict[str, Any] = json.loads(answer or b"{}")
        return found

    def pause(self, queue: str) -> None:
        """Dispatch nothing of a queue, so that a backlog can be made."""
        self.operate("POST", f"operator/queues/{queue}/pause", {"reason": "benchmark"})

    def resume(self, queue: str) -> None:
        """Dispatch it again."""
        self.operate("POST", f"operator/queues/{queue}/resume", {"reason": "benchmark"})

    def limit(self, tenant: str, **limits: object) -> None:
        """Change a tenant's limits, by the names of ``PUT /tenants/{slug}/limits``."""
        self.operate("PUT", f"tenants/{tenant}/limits", limits)

    def new_tenant(self, slug: str) -> str:
        """Make a tenant with a token that may do everything in it; gives the token."""
        self.operate("POST", "operator/tenants", {"slug": slug, "name": slug})
        made = self.operate("POST", f"tenants/{slug}/tokens", {"name": "bench", "scopes": ["*"]})
        return str(made["token"])


def submit(platform: Platform, request: bytes, count: int) -> list[str]:
    """Submit the same task ``count`` times over one connection; gives the ids."""
    client = Client(platform.port)
    ids = []
    for _ in range(count):
        status, body, _ = client.ask(request)
        if status != 201:
            raise RuntimeError(f"{status}: {body[:500]!r}")
        ids.append(str(json.loads(body)["id"]))
    client.close()
    return ids


def wait_until(database: psycopg.Connection[Any], query: str, values: list[Any], seconds: float) -> None:
    """Ask a query that gives one boolean until it is true.

    Raises:
        TimeoutError: when it is not within ``seconds``.
    """
    deadline = time.monotonic() + seconds
    while True:
        row = database.execute(query, values).fetchone()
        if row is not None and row[0]:
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:g} s: {query}")
        time.sleep(0.05)


@contextmanager
def state_folder() -> Iterator[Path]:
    """Give a folder for the state of one platform or of several that follow each other.

    Not below /tmp, where nobody keeps it: that is the run's own at level `full`, and the way to its
    workspace would have to be made on the disk for each run.
    """
    folder = Path(tempfile.mkdtemp(prefix="bench-platform-", dir="/var/tmp"))
    folder.chmod(0o711)
    try:
        yield folder / "state"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def started(state: Path, *, level: str, pools: str, **settings: str) -> Iterator[Platform]:
    """Run a platform on a state folder at one isolation level with these pools; stop it at the end."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(OURS) and name not in SERVERS
    }
    environment |= {
        "SWITCHYARD_ISOLATION": level,
        "SWITCHYARD_POOLS": pools,
        "SWITCHYARD_TEST_TASK_TYPES": "1",
        "SWITCHYARD_REQUEST_RATE": "1000000",
        "SWITCHYARD_REQUEST_BURST": "1000000",
        "SWITCHYARD_DRAIN": "5",
        "SWITCHYARD_CANCEL_GRACE": "2",
        **settings,
    }
    since = time.time()
    _up(state, environment, START_SECONDS, "--detach", "--port", "0", "--no-welcome")
    try:
        credentials = json.loads((state / "credentials.json").read_text())
        platform = Platform(state, credentials, int(json.loads((state / "lock").read_text())["pid"]))
        _await_pools(platform, [part.partition("=")[0] for part in pools.split(",")], since)
        yield platform
    finally:
        _up(state, environment, STOP_SECONDS, "--stop")


def _await_pools(platform: Platform, queues: list[str], since: float) -> None:
    """Wait until a worker of each queue is on record; `up` is ready with the first one.

    One that started before ``since`` was the last platform's on this state folder.
    """
    with platform.database() as database:
        wait_until(
            database,
            "SELECT count(DISTINCT queue) >= %s FROM worker WHERE queue = ANY(%s)"
            " AND seen_at > clock_timestamp() - interval '10 s' AND started_at > to_timestamp(%s)",
            [len(queues), queues, since],
            START_SECONDS,
        )


def _up(state: Path, environment: dict[str, str], seconds: float, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), "up", "--state", str(state), *arguments],
        env=environment,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds,
    )
    if done.returncode:
        raise RuntimeError(f"`up {' '.join(arguments)}` failed:\n{done.stdout}")
