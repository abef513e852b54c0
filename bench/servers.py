"""What benchmarks of the web process share: durable servers, one tenant, and a web server to ask.

The servers are those of `up` (``ops.embedded.pair``, with fsync); the web process is started by the
module that `up` starts, on a socket that we keep. Its working folder is removed at the end.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 60.0

# Makes the one tenant with a token and publishes the task types, as a first start and a worker do.
PREPARE = """
import django; django.setup()
from django.core.management import call_command
call_command("migrate", verbosity=0)
from tenants.actor import SYSTEM
from tenants.services import tenant_create, token_issue
from tasks.services.workers import task_types_publish
from workers.publishing import described_types
task_types_publish(described_types())
tenant = tenant_create(actor=SYSTEM, slug="bench", name="Bench", is_first=True)
print(token_issue(tenant=tenant, actor=SYSTEM, name="bench", scopes=["*"])[1])
"""


@contextmanager
def platform() -> Iterator[tuple[dict[str, str], str]]:
    """Start PostgreSQL and Valkey and fill in the first tenant; gives (environment, token)."""
    folder = Path(tempfile.mkdtemp(prefix="bench-web-"))
    path = os.pathsep.join([str(ROOT), str(ROOT / "platform"), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path}
    pair = subprocess.Popen(
        [sys.executable, "-m", "ops.embedded.pair", str(folder / "pair")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
        start_new_session=True,
    )
    assert pair.stdin is not None
    assert pair.stdout is not None
    try:
        addresses: dict[str, str] = json.loads(pair.stdout.readline())
        environment |= {
            "DATABASE_URL": addresses["database_url"],
            "REDIS_URL": addresses["redis_url"],
            "BROKER_URL": addresses["broker_url"],
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "SWITCHYARD_SECRET_KEY": "only-for-benchmarks-" + "0" * 40,
            "SWITCHYARD_TEST_TASK_TYPES": "1",
            "SWITCHYARD_STATE": str(folder),
            # One client of a benchmark asks more often than any script may.
            "SWITCHYARD_REQUEST_RATE": "1000000",
            "SWITCHYARD_REQUEST_BURST": "1000000",
        }
        done = subprocess.run(
            [sys.executable, "-c", PREPARE], env=environment, stdout=subprocess.PIPE, check=True
        )
        yield environment, done.stdout.decode().split()[-1]
    finally:
        pair.stdin.close()
        pair.wait(SECONDS)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def web(environment: dict[str, str], *arguments: str) -> Iterator[tuple[int, int]]:
    """Run a web process, ours or the one of ``arguments``; gives (port, process id).

    ``{fd}`` in the arguments stands for the listening socket.
    """
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        descriptor = listener.fileno()
        argv = arguments or ("ops.up.serve", "{fd}")
        server = subprocess.Popen(
            [sys.executable, "-m", *(part.replace("{fd}", str(descriptor)) for part in argv)],
            env={**environment, "SWITCHYARD_ROLE": "web"},
            pass_fds=(descriptor,),
            cwd=ROOT,
        )
        try:
            yield listener.getsockname()[1], server.pid
        finally:
            server.terminate()
            try:
                server.wait(SECONDS)
            except subprocess.TimeoutExpired:
                server.kill()


def cpu_seconds(pid: int) -> float:
    """CPU time that one process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:13]) / os.sysconf("SC_CLK_TCK")


class Client:
    """One keep-alive connection that sends prepared bytes: the least a client can cost."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, request: bytes) -> tuple[int, bytes, float]:
        """Send one request; gives the status, the body and the milliseconds that it took."""
        began = time.perf_counter()
        self.socket.sendall(request)
        received = self.socket.recv(65536)
        while b"\r\n\r\n" not in received:
            received += self._more()
        head, _, body = received.partition(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        lengths = [int(line[15:]) for line in lines if line.startswith(b"content-length:")]
        # Without a length it comes in chunks; the last one is empty.
        while len(body) < lengths[0] if lengths else not body.endswith(b"0\r\n\r\n"):
            body += self._more()
        return int(head[9:12]), body, (time.perf_counter() - began) * 1000

    def close(self) -> None:
        """End the connection."""
        self.socket.close()

    def _more(self) -> bytes:
        piece = self.socket.recv(65536)
        if not piece:
            raise ConnectionError("the server closed the connection")
        return piece


def request_bytes(method: str, path: str, token: str = "", body: object = None) -> bytes:
    """Return one HTTP/1.1 request as it goes over the wire."""
    content = b"" if body is None else json.dumps(body).encode()
    head = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", "Accept: application/json"]
    if token:
        head.append(f"Authorization: Bearer {token}")
    if content:
        head += ["Content-Type: application/json", f"Content-Length: {len(content)}"]
    return "\r\n".join([*head, "", ""]).encode() + content


def percentile(values: list[float], share: float) -> float:
    """Return the value below which ``share`` of the values lie."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]
