"""A private RabbitMQ, started from Debian's package and gone without a trace.

Everything it owns is in one temporary folder: data, log, settings and Erlang's cookie. It listens on
free ports of 127.0.0.1, and so does the port mapper (epmd) that Erlang insists on: it is started
here, as a child, so that no stray one stays behind.

    python -m tests.e2e.rabbitmq [arguments for pytest]

runs all of tests/e2e on one: only BROKER_URL differs. Every platform that is started gets a virtual host
to itself, as two deployments that share a broker should: the names of their queues are the same.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from kombu import Connection

from ops.supervision.processes import descendants
from tests.e2e.platforms import command_line

PACKAGE = "rabbitmq-server"
# The package's start script as it is; the one on the PATH changes the user and writes to /var.
SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
MISSING = f"RabbitMQ is not installed: as root, `apt-get install {PACKAGE}`, then run this again"
START_SECONDS = 180.0
# More than there are platforms in tests/e2e, and so few that the start is not slowed down.
VIRTUAL_HOSTS = 20
STOP_SECONDS = 15.0

CONFIGURATION = """\
listeners.tcp.1 = 127.0.0.1:{port}
load_definitions = {definitions}
log.file = false
log.console = true
log.console.level = warning
vm_memory_high_watermark.absolute = 512MiB
disk_free_limit.absolute = 1MB
"""


def installed() -> bool:
    """Whether the server's package is there."""
    return SERVER.exists() and shutil.which("epmd") is not None


class RabbitMQ:
    """One server. Stopping or killing it keeps its data; :meth:`remove` ends and deletes all."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="rabbitmq-"))
        self.port, self._names, self._distribution = _free_ports(3)
        self._password = secrets.token_hex(16)
        self._name = f"e2e-{self.port}@localhost"
        self._server: subprocess.Popen[bytes] | None = None
        self._mapper: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its address, as ``BROKER_URL`` takes it."""
        return f"amqp://switchyard:{self._password}@127.0.0.1:{self.port}//"

    def connection(self) -> Connection:
        """Return a new, unopened connection of a test's own."""
        return Connection(self.url, connect_timeout=5)

    def start(self) -> None:
        """Start it, anew or with the data of its last life, and wait until it takes connections."""
        definitions = self.folder / "definitions.json"
        definitions.write_text(json.dumps(self._definitions()))
        (self.folder / "rabbitmq.conf").write_text(
            CONFIGURATION.format(port=self.port, definitions=definitions)
        )
        (self.folder / "plugins").write_text("[].\n")
        environment = self._environment()
        if self._mapper is None:
            self._mapper = self._child(["epmd", "-port", str(self._names), "-address", "127.0.0.1"])
        self._server = self._child([str(SERVER)], environment)
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            assert self._server.poll() is None, f"RabbitMQ ended at its start:\n{self.log()}"
            assert time.monotonic() < deadline, f"RabbitMQ does not start:\n{self.log()}"
            time.sleep(0.1)

    def kill(self) -> None:
        """Kill it as a power cut would."""
        self._end()

    def freeze(self) -> None:
        """Stop it in its tracks: connections stay open and nothing answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen one go on."""
        self._signal(signal.SIGCONT)

    def purge(self, *queues: str) -> int:
        """Throw away all messages that wait in these queues; return how many there were."""
        with self.connection() as connection:
            return sum(int(connection.default_channel.queue_purge(queue)) for queue in queues)

    def log(self) -> str:
        """Return what it has logged."""
        return (self.folder / "log").read_text(errors="replace")

    def remove(self) -> None:
        """Stop it and its port mapper, and delete its folder."""
        # The orderly shutdown of a broker that has nothing to keep is only slow.
        self._end()
        if self._mapper is not None:
            self._mapper.kill()
            self._mapper.wait(STOP_SECONDS)
            self._mapper = None
        shutil.rmtree(self.folder, ignore_errors=True)

    def _definitions(self) -> dict[str, list[dict[str, str]]]:
        """Return the one user and all virtual hosts: ``/``, and ``0``, ``1`` and so on."""
        hosts = ["/", *(str(number) for number in range(VIRTUAL_HOSTS))]
        everything = {"configure": ".*", "write": ".*", "read": ".*"}
        return {
            "users": [{"name": "switchyard", "password": self._password, "tags": ""}],
            "vhosts": [{"name": host} for host in hosts],
            "permissions": [{"user": "switchyard", "vhost": host, **everything} for host in hosts],
        }

    def _environment(self) -> dict[str, str]:
        ours = {
            "HOME": str(self.folder),  # where Erlang keeps its cookie
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._names),
            "RABBITMQ_ALLOW_INPUT": "1",  # lets the start script become the server, with its id
            "RABBITMQ_CONF_ENV_FILE": str(self.folder / "no-such-file"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_DIST_PORT": str(self._distribution),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            "RABBITMQ_FEATURE_FLAGS_FILE": str(self.folder / "flags"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(self.folder / "generated"),
            "RABBITMQ_LOG_BASE": str(self.folder),
            "RABBITMQ_MAX_NUMBER_OF_PROCESSES": "50000",
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_NODENAME": self._name,
            "RABBITMQ_PID_FILE": str(self.folder / "pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                "-noinput +S 1:1 -kernel inet_dist_use_interface {127,0,0,1}"
            ),
        }
        inherited = {name: text for name, text in os.environ.items() if not name.startswith("RABBITMQ_")}
        return inherited | ours

    def _child(
        self, command: list[str], environment: dict[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a program that dies with this process, even with a killed one."""
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *command],
                env=environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _answers(self) -> bool:
        connection = Connection(self.url, connect_timeout=2)
        try:
            connection.transport.establish_connection().collect()
        except (OSError, *connection.connection_errors, *connection.channel_errors):
            return False
        return True

    def _signal(self, number: signal.Signals) -> None:
        assert self._server is not None, "RabbitMQ does not run"
        self._server.send_signal(number)

    def _end(self) -> None:
        if self._server is None:
            return
        helpers = descendants(self._server.pid)
        self._server.send_signal(signal.SIGKILL)
        self._server.wait(STOP_SECONDS)
        self._server = None
        # They end by themselves when the server has gone; a killed one does not take them along.
        deadline = time.monotonic() + STOP_SECONDS
        while any(command_line(pid) for pid in helpers):
            assert time.monotonic() < deadline, f"still there: {helpers}"
            time.sleep(0.02)


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def main(arguments: list[str]) -> int:
    """Run the end-to-end tests with RabbitMQ as the broker; return pytest's exit code."""
    if not installed():
        print(f"e2e: {MISSING}.")
        return 1
    server = RabbitMQ()
    try:
        server.start()
        environment = {**os.environ, "SWITCHYARD_E2E_BROKER_URL": server.url.rstrip("/")}
        command = [sys.executable, "-m", "pytest", "tests/e2e", *arguments]
        return subprocess.run(command, env=environment).returncode
    finally:
        server.remove()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
