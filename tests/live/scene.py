"""What live tests are played with: a real web server, tasks with a claimed run, and clients.

The web server is a process of its own on the test database, so that what the tests see has passed
through every layer. Clients are synchronous: a test reads like the conversation it is.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
from django.db import connection
from websockets.exceptions import ConnectionClosed, ConnectionClosedOK
from websockets.sync.client import ClientConnection, connect

from tasks.models import Inflight, Ready, Task
from tasks.outcomes import Outcome
from tasks.services.append import Lines, Progress, append
from tasks.services.claim import claim
from tasks.services.finish import finish
from tasks.services.submit import submit
from tasks.services.workers import task_types_publish
from tasks.states import RunStatus
from tasks.submission import Submission
from tenants.actor import SYSTEM
from tenants.models import ApiToken, Tenant
from tenants.services import token_issue

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 30.0
PATIENCE = 10.0

# Served as `up` serves it; shorter pings and other limits only make tests short.
SERVE = """
import json, socket, sys, uvicorn
from live import limits
from ops.up.serve import configuration
for name, value in json.loads(sys.argv[3]).items():
    assert hasattr(limits, name)
    setattr(limits, name, value)
listener = socket.socket(fileno=int(sys.argv[1]))
uvicorn.Server(configuration(**json.loads(sys.argv[2]))).run(sockets=[listener])
"""


@dataclass
class Web:
    """A running web process; ``log`` is what it wrote."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def sockets(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    def terminate(self) -> float:
        """Ask it to stop as `up` does; return the seconds that it took."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(PATIENCE)
        return time.monotonic() - began


@contextmanager
def web_process(
    folder: Path,
    *,
    pings: dict[str, float] | None = None,
    limits: dict[str, float] | None = None,
    **environment: str,
) -> Iterator[Web]:
    """Run a web process on the test database, with other pings and :mod:`live.limits` where given."""
    listener = socket.create_server(("127.0.0.1", 0))
    log = folder / f"web-{listener.getsockname()[1]}.log"
    settings = connection.settings_dict
    name = settings["NAME"]
    base, _, options = os.environ["DATABASE_URL"].partition("?")
    url = f"{base.rpartition('/')[0]}/{name}" + (f"?{options}" if options else "")
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                *(sys.executable, "-c", SERVE, str(listener.fileno())),
                *(json.dumps(pings or {}), json.dumps(limits or {})),
            ],
            env={
                **os.environ,
                "DATABASE_URL": url,
                "SWITCHYARD_ROLE": "web",
                "PYTHONPATH": f"{ROOT}:{ROOT / 'platform'}",
                **environment,
            },
            pass_fds=(listener.fileno(),),
            stdout=output,
            stderr=output,
        )
    web = Web(process, listener.getsockname()[1], log)
    try:
        with httpx2.Client(trust_env=False, timeout=START_SECONDS) as client:
            answer = client.get(f"{web.url}/ws/v1/nothing")
        assert answer.status_code == 404, f"{answer.status_code}\n{log.read_text()}"
        listener.close()
        yield web
    finally:
        process.kill()
        process.wait()


@dataclass
class Job:
    """A task of the test's own, and the epoch of its claimed run."""

    task: Task
    epoch: int = 0
    lines: int = field(default=1)

    @property
    def id(self) -> uuid.UUID:
        return self.task.pk

    @property
    def last_seq(self) -> int:
        return int(Task.objects.values_list("last_seq", flat=True).get(pk=self.id))

    def run(self) -> Job:
        """Dispatch and claim it, as dispatcher and worker do."""
        ready = Ready.objects.get(pk=self.id)
        ready.delete()
        Inflight.objects.create(
            task_id=self.id,
            queue=ready.queue,
            tenant_id=ready.tenant_id,
            rank=ready.rank,
            ordinal=ready.ordinal,
            type_id=ready.type_id,
            epoch=ready.epoch,
            token="t" * 43,
            state="dispatched",
            lease_until=datetime.now(UTC),
        )
        claimed = claim(
            self.id,
            ready.epoch,
            "t" * 43,
            queue=ready.queue,
            worker=uuid.uuid4(),
            machine="here",
            isolation="process",
            pid=1,
        )
        assert claimed is not None
        self.epoch = claimed.epoch
        return self

    def print(self, *texts: str, stream: str = "stdout") -> int:
        """Store lines, as its supervisor does; return the event's number."""
        said = Lines(datetime.now(UTC), stream, self.lines, texts, (0,) * len(texts))
        self.lines += len(texts)
        return append(self.id, self.epoch, [said])

    def progress(self, percent: float, step: str = "") -> int:
        return append(self.id, self.epoch, [Progress(datetime.now(UTC), percent, step)])

    def complete(self) -> None:
        finish(self.id, self.epoch, Outcome(RunStatus.COMPLETED, result={"ok": True}))


def submitted(tenant: Tenant) -> Job:
    """Submit a task."""
    publish_type()
    return Job(submit(tenant, SYSTEM, Submission(type="live.test")))


def publish_type() -> None:
    described: dict[str, Any] = {
        "title": "",
        "description": "",
        "queue": "normal",
        "params_schema": {"type": "object"},
        "version": 1,
        "handler": "nowhere:nothing",
        "cancellable": True,
        "idempotent": True,
        "preemptible": False,
        "steering": False,
        "network": False,
        "time_limit": 60.0,
        "max_retries": 0,
        "retry": {},
        "limits": {},
        "secrets": [],
        "needs": [],
        "on_loss": "retry",
        "on_shutdown": "requeue",
        "test_only": False,
    }
    task_types_publish({"live.test": described})


def token_of(tenant: Tenant, *scopes: str) -> tuple[ApiToken, str]:
    return token_issue(tenant=tenant, actor=SYSTEM, name="ci", scopes=scopes or ("*",))


@contextmanager
def dial(
    web: Web,
    path: str,
    token: str | None = None,
    *,
    headers: dict[str, str] | None = None,
    origin: str | None = None,
    subprotocols: list[str] | None = None,
    **options: Any,
) -> Iterator[ClientConnection]:
    """Open a socket; ``path`` begins with a slash."""
    extra = dict(headers or {})
    if token is not None:
        extra["Authorization"] = f"Bearer {token}"
    with connect(
        web.sockets + path,
        additional_headers=extra,
        origin=origin,  # type: ignore[arg-type]
        subprotocols=subprotocols,  # type: ignore[arg-type]
        proxy=None,
        max_size=None,
        **{"close_timeout": 1, **options},
    ) as client:
        yield client


def task_path(job: Job, after: object = None, *, tenant: str = "acme") -> str:
    query = "" if after is None else f"?after={after}"
    return f"/ws/v1/tenants/{tenant}/tasks/{job.id}{query}"


def hear(client: ClientConnection, timeout: float = PATIENCE) -> dict[str, Any]:
    """Return the next frame."""
    frame: dict[str, Any] = json.loads(client.recv(timeout))
    return frame


def hear_until(client: ClientConnection, seq: int) -> list[dict[str, Any]]:
    """Return the frames up to event ``seq``."""
    frames: list[dict[str, Any]] = []
    while not frames or frames[-1].get("seq", 0) < seq or frames[-1]["kind"] == "snapshot":
        frames.append(hear(client))
    return frames


def hear_all(client: ClientConnection, timeout: float = PATIENCE) -> list[dict[str, Any]]:
    """Return every frame until the server closes with 1000."""
    frames = []
    while True:
        try:
            frames.append(hear(client, timeout))
        except ConnectionClosedOK:
            return frames


def close_code(client: ClientConnection, timeout: float = PATIENCE) -> int:
    """Read on until the server closes; return its code."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            client.recv(max(0.01, deadline - time.monotonic()))
        except ConnectionClosed:
            return int(client.close_code or 0)


def seqs(frames: list[dict[str, Any]]) -> list[int]:
    """Return the numbers of the events among frames."""
    return [frame["seq"] for frame in frames if frame["kind"] not in ("snapshot", "end")]
