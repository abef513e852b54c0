"""A platform that may be mistreated: real servers, proxies before them, real processes, and a judge.

:func:`open_stage` starts a PostgreSQL and a Valkey of its own (which come back by themselves when
killed), a proxy before each of the three connections (database, channels, broker), and a whole
platform by ``up`` that knows only the proxies.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx2
import psycopg
import redis

from ops.supervision.processes import children, descendants
from tests.chaos.oracle import Ledger, Register, judge
from tests.chaos.owners import role_of
from tests.chaos.proxy import Proxy
from tests.e2e.platforms import ROOT, Platform, start_platform
from tests.e2e.work import TERMINAL, Json, Work
from tests.processes import name_of_process

ARMED = (
    "before_commit:kill9",
    "after_commit:kill9",
    "before_publish:kill9",
    "after_publish:kill9",
    "before_claim:kill9",
    "after_claim:kill9",
    "before_workspace:kill9",
    "before_handler:kill9",
    "after_handler:kill9",
    "before_finish:stop",
    "after_finalise:kill9",
    "before_wipe:kill9",
    "in_reap:kill9",
    "in_dispatch:kill9",
)
"""What is armed in every stage; each waits for :meth:`Stage.arm`."""

# Room for PostgreSQL's log as well, which may grow to 1 GiB between two checkpoints.
DISK_MEGABYTES = 1536

MARKER = b"SWITCHYARD_RUN="
ACCEPT_SECONDS = 60.0
SERVERS_SECONDS = 60.0


@dataclass
class Servers:
    """The embedded pair in a process of its own; durable enough to lose nothing that is committed."""

    process: subprocess.Popen[str]
    folder: Path
    addresses: dict[str, str]

    @property
    def database_url(self) -> str:
        """PostgreSQL by TCP, past every proxy."""
        return self.addresses["database_url_tcp"]

    @property
    def postmaster(self) -> int:
        """PostgreSQL's main process."""
        return self._child("/bin/postgres -D")

    @property
    def valkey(self) -> int:
        """Valkey's process."""
        return self._child("valkey-server")

    def broker(self) -> redis.Redis:
        """Return a client of the broker, past every proxy."""
        return redis.Redis.from_url(self.addresses["broker_url_tcp"])

    def backends(self, role: str) -> list[int]:
        """Return PostgreSQL's processes that serve one role (``web``, ``dispatcher``, ``worker``…).

        Supervisors have theirs from their machine's pooler, which names no role.
        """
        names = [f"switchyard-{role}", *(["switchyard"] if role == "worker" else [])]
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            rows = connection.execute(
                "SELECT pid FROM pg_stat_activity WHERE application_name = ANY(%s)", [names]
            ).fetchall()
        return [pid for (pid,) in rows]

    @contextmanager
    def frozen_database(self) -> Iterator[None]:
        """Stop every process of PostgreSQL with SIGSTOP while the context lasts."""
        main = self.postmaster
        stopped = [main, *children(main)]
        for pid in stopped:
            _signal(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in [main, *children(main)]:
                _signal(pid, signal.SIGCONT)

    @contextmanager
    def frozen_valkey(self) -> Iterator[None]:
        """Stop Valkey with SIGSTOP while the context lasts."""
        pid = self.valkey
        _signal(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            _signal(pid, signal.SIGCONT)

    @contextmanager
    def full_disk(self) -> Iterator[None]:
        """Leave no byte free on the servers' disk while the context lasts; only where it is theirs."""
        assert can_mount()
        ballast = Path(f"/proc/{self.process.pid}/root{self.folder}/ballast")
        try:
            with ballast.open("wb") as stream, suppress(OSError):
                while True:
                    stream.write(b"x" * 65536)
                    stream.flush()
            yield
        finally:
            ballast.unlink(missing_ok=True)

    def restart_database(self) -> None:
        """As ``pg_ctl restart -m immediate``: SIGQUIT, crash recovery at the next start."""
        pid = self.postmaster
        _signal(pid, signal.SIGQUIT)
        self._wait_for_another(pid, lambda: self.postmaster)

    def kill_valkey(self) -> None:
        """SIGKILL; what comes back remembers nothing (no snapshot, no append-only file)."""
        pid = self.valkey
        with self.broker() as broker:
            broker.config_set("appendonly", "no")
        shutil.rmtree(f"/proc/{pid}/root{self.folder}/valkey/appendonlydir", ignore_errors=True)
        _signal(pid, signal.SIGKILL)
        self._wait_for_another(pid, lambda: self.valkey)

    def _wait_for_another(self, old: int, look: Callable[[], int]) -> None:
        deadline = time.monotonic() + SERVERS_SECONDS
        while time.monotonic() < deadline:
            with suppress(AssertionError):
                if look() != old:
                    return
            time.sleep(0.02)
        raise AssertionError("the server did not come back")

    def _child(self, mark: str) -> int:
        for pid in descendants(self.process.pid):
            with suppress(OSError):
                line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
                if mark in line:
                    return pid
        raise AssertionError(f"{mark} does not run")


@dataclass
class Stage:
    """One mistreated platform, and the ledger of what it has promised."""

    servers: Servers
    database: Proxy
    channels: Proxy
    broker: Proxy
    platform: Platform
    ledger: Ledger = field(default_factory=Ledger)

    @property
    def work(self) -> Work:
        """A client of the first tenant."""
        return Work(self.platform)

    def submit(self, key: str = "", /, *, client: httpx2.Client | None = None, **body: Any) -> Json:
        """Submit a test task until it is accepted, with one Idempotency-Key, as a careful client."""
        key = key or f"stage-{time.monotonic_ns()}"
        deadline = time.monotonic() + ACCEPT_SECONDS
        with ExitStack() as stack:
            http = client or stack.enter_context(self.platform.client())
            while time.monotonic() < deadline:
                with suppress(httpx2.HTTPError):
                    answer = http.post(
                        "tasks", json={"type": "test.dummy", **body}, headers={"Idempotency-Key": key}
                    )
                    if answer.status_code in (200, 201):
                        return self.ledger.accept(answer.json())
                    assert answer.status_code in (429, 503), answer.text
                time.sleep(0.1)
        raise AssertionError("the API did not come back")

    def arm(self, point: str) -> None:
        """Have the next process that reaches a fault point of :data:`ARMED` do what is armed there."""
        assert point in {entry.partition(":")[0] for entry in ARMED}
        (self.marks / point).unlink(missing_ok=True)

    def sprung(self, point: str) -> bool:
        """Whether an armed fault point was reached."""
        return (self.marks / point).exists()

    @property
    def marks(self) -> Path:
        """Where processes remember which fault points have fired; a mark disarms its point."""
        return self.platform.state / "service" / "faults"

    def disarm(self) -> None:
        """Have no fault point do anything."""
        self.marks.mkdir(parents=True, exist_ok=True)
        self.marks.chmod(0o777)
        for entry in ARMED:
            (self.marks / entry.partition(":")[0]).touch()

    def undo(self) -> None:
        """End all trouble that a test made."""
        for proxy in (self.database, self.channels, self.broker):
            proxy.open()
        self.disarm()

    def drain(self, *, seconds: float = 60) -> float:
        """Wait until every accepted task has ended; return the seconds that it took."""
        began = time.monotonic()
        left = set(self.ledger.accepted)
        while left:
            with suppress(psycopg.OperationalError):
                with psycopg.connect(self.servers.database_url) as connection:
                    rows = connection.execute(
                        "SELECT id::text FROM task WHERE finished_at IS NULL AND id = ANY(%s::uuid[])",
                        [list(left)],
                    ).fetchall()
                left = {row[0] for row in rows}
            if left and time.monotonic() - began > seconds:
                raise AssertionError(f"{len(left)} tasks have not ended: {self.tell(sorted(left)[:3])}")
            time.sleep(0.1)
        return time.monotonic() - began

    def tell(self, tasks: list[str]) -> str:
        """Return what the tables say of tasks, for a failing test's sake."""
        register = Register.read(self.servers.database_url)
        found = []
        for task in tasks:
            row = register.tasks.get(task, {})
            live = [row for rows in register.live.values() for row in rows if row["task_id"] == task]
            found.append(f"{task} {row.get('status')} {register.events.get(task, [])[-5:]} {live}")
        return "\n".join(found)

    def check(self, *, seconds: float = 60) -> Register:
        """Drain, and assert that every promise was kept and nothing was left behind."""
        self.undo()
        self.drain(seconds=seconds)
        register = Register.read(self.servers.database_url)
        if problems := judge(register, self.ledger):
            raise AssertionError("\n".join(problems))
        return register

    def check_machine(self, *, seconds: float = 40) -> None:
        """Assert that nothing is left on the machine; the sweeps may take their time first."""
        deadline = time.monotonic() + seconds
        while (left := self.left_behind()) and time.monotonic() < deadline:
            time.sleep(0.1)
        if left:
            raise AssertionError("\n".join(left))

    def left_behind(self) -> list[str]:
        """Return processes of runs, workspaces and messages that should not be there any more."""
        found = [f"process {pid}" for pid in processes_of_runs(self.platform)]
        workspaces = self.platform.state / "workspaces"
        found += [f"workspace {path.name}" for path in workspaces.glob("*-*")]
        with self.servers.broker() as broker:
            for queue in ("critical", "normal", "batch"):
                waiting = broker.llen(queue)
                if isinstance(waiting, int) and waiting > 6:
                    found.append(f"{waiting} messages in {queue}")
        return found


def can_mount() -> bool:
    """Whether the servers can be given a disk of their own: root, and a system that lets it."""
    return os.geteuid() == 0 and subprocess.run(["unshare", "-m", "true"], check=False).returncode == 0


def processes_of_runs(platform: Platform) -> list[int]:
    """Return processes that belong to a run of this platform, by their names or environments."""
    found = [pid for pid in platform.processes() if name_of_process(pid).startswith("run ")]
    ours = str(platform.state).encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                environment = (entry / "environ").read_bytes()
                if MARKER in environment and ours in environment:
                    found.append(int(entry.name))
    return found


@contextmanager
def open_servers(folder: Path) -> Iterator[Servers]:
    """Start the pair; it ends with its standard input, whatever becomes of us."""
    folder.mkdir(parents=True)
    log_file = folder.parent / "pair.log"
    # Not --temporary: without durable commits a crash may lose what PostgreSQL had promised.
    command = [sys.executable, "-m", "ops.embedded.pair", str(folder)]
    if can_mount():
        # A disk of its own, seen only by the servers: it can be filled without harm to anybody else.
        mount = f"mount -t tmpfs -o size={DISK_MEGABYTES}m,mode=755 tmpfs {folder}"
        command = ["unshare", "-m", "sh", "-c", f'{mount} && exec "$0" "$@"', *command]
    with log_file.open("w") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'platform'}"},
        )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        line = process.stdout.readline()
        assert line, log_file.read_text()
        yield Servers(process, folder, json.loads(line))
    finally:
        with suppress(OSError):
            process.stdin.close()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def open_stage(**settings: str) -> Iterator[Stage]:
    """Start everything; ``settings`` are further environment variables of the platform."""
    folder = Path(tempfile.mkdtemp(prefix="switchyard-chaos-"))
    folder.chmod(0o755)
    try:
        with ExitStack() as stack:
            servers = stack.enter_context(open_servers(folder / "servers"))
            state = folder / "state"
            addresses = servers.addresses

            def pids() -> list[int]:
                up = int(json.loads((state / "lock").read_text())["pid"])
                return [up, *descendants(up)]

            def proxied(name: str) -> tuple[Proxy, str]:
                parts = urlsplit(addresses[name])
                proxy = stack.enter_context(Proxy(parts.port or 0, role_of(pids)))
                host = parts.netloc.rpartition("@")[0] + f"@127.0.0.1:{proxy.port}"
                return proxy, urlunsplit(parts._replace(netloc=host))

            database, database_url = proxied("database_url_tcp")
            channels, redis_url = proxied("redis_url_tcp")
            broker, broker_url = proxied("broker_url_tcp")
            platform = start_platform(
                state,
                DATABASE_URL=database_url,
                REDIS_URL=redis_url,
                BROKER_URL=broker_url,
                SWITCHYARD_FAULT_POINTS=",".join(ARMED),
                **settings,
            )
            stage = Stage(servers, database, channels, broker, platform)
            stage.disarm()
            try:
                yield stage
            finally:
                stage.undo()
                platform.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def ended(task: Json) -> bool:
    """Whether a task, as the API shows it, has ended."""
    return task["status"] in TERMINAL


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
