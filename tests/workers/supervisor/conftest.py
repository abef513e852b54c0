"""One supervisor on a real PostgreSQL: forked as Celery's pool forks it, without a broker before it."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import os
import shutil
import signal
import tempfile
import time
import traceback
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import connection, connections
from psycopg import sql

from ops.supervision.processes import descendants
from switchyard.handler import declared
from switchyard.specification import specify
from tasks.models import Event, Inflight, LogChunk, Ready, Run, Task
from tasks.services.lose import Expired, lose
from tasks.services.workers import task_types_publish
from tenants.models import Tenant
from tests.conftest import Eventually
from tests.tasks.api.work import TOKEN, WORKER, dispatched, start_platform, submitted
from tests.tenants.callers import the_trail_may_be_emptied_between_tests
from workers import supervisor, worker_steps
from workers.publishing import described_types
from workers.sandbox import Level, detect, paths
from workers.supervisor.place import Place, workspace_root

__all__ = ["the_trail_may_be_emptied_between_tests"]

HERE = Path(__file__).parent
HANDLERS = HERE / "handlers"
AVAILABLE = detect()
PR_SET_PDEATHSIG = 1
SIGNALS_NOT_RESTORED = 71


@pytest.fixture(params=list(Level))
def level(request: pytest.FixtureRequest) -> Level:
    """Each isolation level that works on this machine."""
    chosen: Level = request.param
    if not AVAILABLE.available[chosen]:
        pytest.skip(f"level {chosen} does not work here: {AVAILABLE.reasons[chosen]}")
    return chosen


@dataclass
class Guarded:
    """A supervisor process and the task whose run it guards."""

    pid: int
    task_id: uuid.UUID
    epoch: int
    journal: Path
    code: int | None = None

    def signal(self, number: signal.Signals) -> None:
        """Send the supervisor a signal."""
        os.kill(self.pid, number)

    def ended(self) -> bool:
        """Whether the process has ended (and is buried now)."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code is not None

    def wait(self, seconds: float = 20) -> int:
        """Wait for its end; gives the exit code (negative: the signal)."""
        deadline = time.monotonic() + seconds
        while not self.ended():
            assert time.monotonic() < deadline, f"still runs after {seconds} s\n{self.said()}"
            time.sleep(0.01)
        assert self.code is not None
        return self.code

    def said(self) -> str:
        """What the supervisor logged."""
        return self.journal.read_text(errors="replace")

    def tree(self) -> list[int]:
        """The supervisor and every process below it."""
        return [self.pid, *descendants(self.pid)]

    @property
    def task(self) -> Task:
        """The task as it is stored now."""
        return Task.objects.get(pk=self.task_id)

    @property
    def run(self) -> Run:
        """The run of this supervisor as it is stored now."""
        return Run.objects.get(task_id=self.task_id, epoch=self.epoch)

    def texts(self, *streams: str) -> list[str]:
        """All stored lines of the run, of all streams or of those named."""
        chunks = LogChunk.objects.filter(task_id=self.task_id, run=self.run.attempt).order_by("seq")
        return [
            line for chunk in chunks if not streams or chunk.stream in streams for line in chunk.lines
        ]

    def events(self, *kinds: str) -> list[dict[str, Any]]:
        """What the task's events say, all or of these kinds."""
        found = Event.objects.filter(task_id=self.task_id).order_by("seq")
        return [event.data for event in found if not kinds or event.kind in kinds]


class Bench:
    """Where tests put tasks on and supervisors to work."""

    def __init__(self, tenant: Tenant, folder: Path, eventually: Eventually) -> None:
        self.tenant = tenant
        self.workspaces = folder / "workspaces"
        self.folder = folder
        self.eventually = eventually
        self.started: list[Guarded] = []

    def start(self, level: Level = Level.PROCESS, type: str = "test.dummy", **options: Any) -> Guarded:
        """Submit a task, dispatch it and fork the supervisor that guards its run."""
        return self.attempt(submitted(self.tenant, type=type, **options), level)

    def shell(self, level: Level, *command: str, **options: Any) -> Guarded:
        """Start a command; one word is a script for /bin/sh."""
        argv = command[0] if len(command) == 1 else list(command)
        return self.start(level, "shell.command", params={"command": argv}, **options)

    def python(self, level: Level, code: str, **options: Any) -> Guarded:
        """Start Python with a program in one argument."""
        return self.shell(level, "python3", "-c", code, **options)

    def attempt(self, task: Task, level: Level = Level.PROCESS) -> Guarded:
        """Dispatch a queued task and fork a supervisor for it."""
        assert Ready.objects.filter(pk=task.pk).exists(), f"not in line but {task.status}"
        row = dispatched(task)
        journal = self.folder / f"supervisor-{len(self.started)}"
        connections.close_all()  # two processes would speak on one socket
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            _supervise(task, row, level, journal, parent)
        guarded = Guarded(pid, task.pk, row.epoch, journal)
        self.started.append(guarded)
        return guarded

    def until_it_runs(self, guarded: Guarded, word: str = "") -> Guarded:
        """Wait until its handler was started, or has said a word."""
        if word:
            self.eventually(lambda: self._has_run(guarded) and word in guarded.texts(), seconds=20)
        else:
            self.eventually(lambda: self._has_run(guarded) and len(guarded.tree()) > 1, seconds=20)
        return guarded

    def expire(self, guarded: Guarded) -> Task:
        """Wait until the lease of a run has ended, reap it, and return its task."""
        self.eventually(lambda: lose(Expired(guarded.task_id, guarded.epoch)) is not None)
        return guarded.task

    @contextmanager
    def database_away(self) -> Iterator[None]:
        """Let nobody but this test reach the database: open connections are cut, new ones refused."""
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_database(), pg_backend_pid()")
            name, own = cursor.fetchone()
        # A database cannot be closed from within.
        beside = {**connection.get_connection_params(), "dbname": "postgres"}
        beside = {key: beside[key] for key in ("host", "port", "user", "password", "dbname")}
        with psycopg.connect(**beside, autocommit=True) as outside:
            allow = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}").format
            try:
                outside.execute(allow(sql.Identifier(name), sql.Literal(False)))
                # Not PostgreSQL's own processes, such as one that vacuums.
                outside.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = %s AND pid <> %s AND backend_type = 'client backend'",
                    [name, own],
                )
                yield
            finally:
                outside.execute(allow(sql.Identifier(name), sql.Literal(True)))

    def nothing_is_left(self, guarded: Guarded) -> None:
        """Assert that slot and workspace of an ended run are free."""
        assert not Inflight.objects.filter(pk=guarded.task_id, epoch=guarded.epoch).exists()
        assert [each.name for each in self.workspaces.iterdir()] == []

    def _has_run(self, guarded: Guarded) -> bool:
        assert not guarded.ended(), guarded.said()
        return Run.objects.filter(task_id=guarded.task_id, epoch=guarded.epoch).exists()


def _supervise(task: Task, row: Inflight, level: Level, journal: Path, parent: int) -> None:
    """In the child: what Celery's child does with a message, and nothing that is pytest's."""
    code = 70
    try:
        log = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        if os.getppid() == parent:
            place = Place(WORKER, task.queue, "m1", os.getpid(), level)
            before = signal.getsignal(signal.SIGTERM)
            supervisor.supervise(str(task.pk), row.epoch, TOKEN, place=place)
            code = 0 if signal.getsignal(signal.SIGTERM) is before else SIGNALS_NOT_RESTORED
    except BaseException:
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(code)


@pytest.fixture
def tenant(transactional_db: None) -> Tenant:
    """A tenant that may use the built-in types and those of `handlers/`."""
    name = "tidy"
    specification = importlib.util.spec_from_file_location(name, HANDLERS / f"{name}.py")
    assert specification is not None
    assert specification.loader is not None
    specification.loader.exec_module(importlib.util.module_from_spec(specification))
    types = described_types()
    pattern = types["test.dummy"]
    for declaration in [each for each in declared.values() if each.name.startswith("tidy.")]:
        spec = specify(declaration)
        del declared[spec.name]
        types[spec.name] = {
            **pattern,
            "handler": spec.entry,
            "params_schema": {"type": "object"},
            "retry": {"delay": 0, "factor": 1, "max_delay": 1, "jitter": 0},
        }
    task_types_publish(types)
    start_platform()
    return Tenant.objects.create(slug="acme", name="Acme")


@pytest.fixture
def draining() -> Iterator[None]:
    """For tests that let this worker drain: it does not any more at their end."""
    yield
    worker_steps.forget_drain()


@pytest.fixture
def bench(
    tenant: Tenant, settings: Any, monkeypatch: pytest.MonkeyPatch, eventually: Eventually
) -> Iterator[Bench]:
    """Supervisors with short times; whatever a test leaves running is killed at its end."""
    folder = Path(tempfile.mkdtemp(prefix="switchyard-supervisor-"))
    (folder / "workspaces").mkdir(mode=0o711)
    short = {
        "lease": 2.0,
        "heartbeat": 0.4,
        "cancel_grace": 1.0,
        "drain": 0.5,
        "workspaces": folder / "workspaces",
        "state": folder,
    }
    settings.SWITCHYARD = settings.SWITCHYARD.model_copy(update=short)
    settings.SWITCHYARD.__dict__.pop("workspace_root", None)
    # The tests' handlers are found as those of an installed package.
    installed = (*paths.site_packages(), HANDLERS)
    monkeypatch.setattr(paths, "site_packages", lambda: installed)
    # Also as root: without users of their own, as below an ordinary user.
    guard = importlib.import_module("workers.supervisor.guard")
    monkeypatch.setattr(guard, "handler_identity", lambda: None)
    workspace_root.cache_clear()
    bench = Bench(tenant, folder, eventually)
    yield bench
    for guarded in bench.started:
        if not guarded.ended():
            tree = guarded.tree()
            for pid in tree:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            guarded.wait(10)
    workspace_root.cache_clear()
    shutil.rmtree(folder, ignore_errors=True)
