"""One run of `up`, from the empty state folder to the last process gone.

The steps: state folder and lock → accounts (and, where root's folders are closed, the private
namespace) → embedded servers → migrations → first tenant, user and tokens → components → ready.
Then it watches until somebody asks it to stop, and ends everything in reverse.
"""

from __future__ import annotations

import compileall
import hashlib
import http.client
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from ops.accounts import Account, Accounts, NoAccount, choose_accounts
from ops.embedded.folders import Home, make_folder, remove_socket_folder, socket_folder
from ops.embedded.postgres import EmbeddedServerError, Postgres
from ops.embedded.postgres import binaries as postgres_binaries
from ops.embedded.valkey import Valkey
from ops.embedded.valkey import binary as valkey_binary
from ops.namespace import Namespace, Unreachable, entering, reveal
from ops.supervision.programs import Program, tail
from ops.supervision.watch import Watch
from ops.up import components
from ops.up.first_start import first_start
from ops.up.progress import Progress
from ops.up.site import CHECKOUT, Site, component_environment, given, needed_by_service
from ops.up.state import State, StateError

SERVER_SECONDS = 90.0
MIGRATE_SECONDS = 600.0
READY_SECONDS = 120.0
BACKLOG = 2048
# A component that has died this often before anything works will not come up by itself.
HOPELESS_AFTER = 5


class StartFailed(Exception):
    """Something could not be started; ``log`` is where the reason stands."""

    def __init__(self, sentence: str, log: Path | None = None) -> None:
        super().__init__(sentence)
        self.log = log

    def told(self) -> str:
        """The sentence, and the end of the log that explains it."""
        end = tail(self.log) if self.log else ""
        return f"{self}\n--- end of {self.log}\n{end}" if end else str(self)


@dataclass
class Options:
    """What the command line asked for; ``port`` None means 8000 or the next free one."""

    state: Path
    host: str = "127.0.0.1"
    port: int | None = None


@dataclass
class Session:
    """A platform that is being started, runs, or is being stopped."""

    options: Options
    progress: Progress
    watch: Watch
    state: State
    site: Site | None = None
    postgres: Postgres | None = None
    valkey: Valkey | None = None
    listener: socket.socket | None = None
    _cleanups: list[Callable[[], None]] = field(default_factory=list)

    def start(self) -> Site:
        """Do every step up to a platform that answers.

        Raises:
            StartFailed: with the sentence for the user.
            Interrupted: when somebody asked to stop meanwhile.
        """
        try:
            return self._start()
        except (StateError, NoAccount, Unreachable, EmbeddedServerError) as error:
            raise StartFailed(str(error)) from None
        except OSError as error:
            raise StartFailed(f"Switchyard could not be started: {error}") from None

    def _start(self) -> Site:
        state, say = self.state, self.progress.step
        accounts = choose_accounts()
        state.make_folders(accounts)
        self.progress.log = state.logs / "up.log"
        say(f"state folder {state.folder}")
        secrets = state.secrets()
        self.listener = self._listen()
        port: int = self.listener.getsockname()[1]
        self.site = site = Site(state, accounts, self._namespace(accounts), self.options.host, port)
        settings = self._servers(site, secrets)
        settings["SWITCHYARD_SECRET_KEY"] = given("SWITCHYARD_SECRET_KEY") or secrets["secret_key"]
        settings["SWITCHYARD_ENCRYPTION_KEYS"] = (
            given("SWITCHYARD_ENCRYPTION_KEYS") or secrets["encryption_keys"]
        )
        environment = component_environment(site, settings)
        if accounts.dropped:
            # The accounts cannot write into the checkout, so they would compile it at every start.
            for folder in ("platform", "tenants", "tasks", "workers"):
                compileall.compile_dir(CHECKOUT / folder, quiet=2)
        self._migrate(site, environment)
        self._credentials(site, environment, secrets["user_password"])
        say("starting web, dispatcher and pools, then beat and the system worker")
        self.watch.add(components.web(site, environment, self.listener))
        self.watch.add(components.dispatcher(site, environment))
        self.watch.add(components.pools(site, environment))
        self._await_ready(site)
        # Nobody waits for these two, and on a small machine they would slow the others' start down.
        self.watch.add(components.beat(site, environment))
        self.watch.add(components.system_worker(site, environment))
        state.announce(url=site.url, stop_within=components.drain_seconds(environment) + 120)
        say(f"ready at {site.url}")
        return site

    def finish(self) -> None:
        """Stop everything in reverse order, and remove what belongs to this run only."""
        if self.watch.programs:
            self.progress.step("stopping (running tasks may finish first; once more Ctrl-C: at once)")
        # Workers first, while all that they report to is still there; the truth goes last.
        for names in (["pools"], ["web", "dispatcher", "beat", "system"], ["valkey"], ["postgres"]):
            self.watch.stop(names)
        self.watch.end_strays()
        if self.listener is not None:
            self.listener.close()
        for cleanup in reversed(self._cleanups):
            cleanup()
        with suppress(OSError):
            self.state.clear_run()
        self.progress.stopped()

    def _listen(self) -> socket.socket:
        """Open the web's listening socket, which outlives every web process."""
        host, wanted = self.options.host, self.options.port
        tries = [wanted] if wanted is not None else [*range(8000, 8010), 0]
        for port in tries:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            listener = socket.socket(family, socket.SOCK_STREAM)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((host, port))
                listener.listen(BACKLOG)
            except OSError as error:
                listener.close()
                reason = error.strerror
                continue
            if wanted is None and port != tries[0]:
                self.progress.step(f"port {tries[0]} is taken: using {listener.getsockname()[1]}")
            return listener
        raise StartFailed(
            f"Cannot listen on {host} port {wanted} ({reason}): choose another with --port, or "
            "leave it out to get a free one."
        )

    def _namespace(self, accounts: Accounts) -> Namespace | None:
        if not accounts.dropped:
            return None
        database: list[Path] = []
        if not given("DATABASE_URL"):
            database += [postgres_binaries(), self._data("postgres", accounts.database)]
        if not given("REDIS_URL"):
            database += [valkey_binary().parent, self._data("valkey", accounts.database)]
        if database:
            database.append(socket_folder(self.state.sockets, accounts.database))
        return reveal({accounts.service: needed_by_service(self.state), accounts.database: database})

    def _data(self, name: str, account: Account) -> Path:
        return make_folder(self.state.folder / name, account, 0o700)

    def _servers(self, site: Site, secrets: dict[str, str]) -> dict[str, str]:
        """Start the embedded servers that are needed; return the three URLs."""
        account = site.accounts.database
        enter = entering(account, site.namespace)
        settings: dict[str, str] = {}

        def home(name: str) -> Home:
            sockets = socket_folder(site.state.sockets, account)
            self._cleanups.append(partial(remove_socket_folder, sockets))
            return Home(
                data=self._data(name, account),
                sockets=sockets,
                log=site.state.logs / f"{name}.log",
                ports=site.state.ports,
                account=account,
                enter=enter,
            )

        if url := given("DATABASE_URL"):
            settings["DATABASE_URL"] = url
        else:
            self.postgres = Postgres(
                home("postgres"),
                password=secrets["database_password"],
                administrator_password=secrets["administrator_password"],
            )
            if not self.postgres.exists():
                self.progress.step("making a PostgreSQL database")
            self.postgres.prepare()
            self._serve(self.postgres.program(), self.postgres.ready, "PostgreSQL")
            settings["DATABASE_URL"] = self.postgres.local_url
        if url := given("REDIS_URL"):
            settings["REDIS_URL"] = url
            settings["BROKER_URL"] = given("BROKER_URL") or url
        else:
            self.valkey = Valkey(home("valkey"), password=secrets["valkey_password"])
            self.valkey.prepare()
            self._serve(self.valkey.program(), self.valkey.ready, "Valkey")
            settings["REDIS_URL"] = self.valkey.local_url
            settings["BROKER_URL"] = given("BROKER_URL") or self.valkey.local_broker_url
        return settings

    def _serve(self, program: Program, ready: Callable[[], bool], title: str) -> None:
        watched = self.watch.add(program)

        def settled() -> bool:
            return ready() or watched.starts >= HOPELESS_AFTER

        if not self.watch.until(settled, seconds=SERVER_SECONDS) or not ready():
            raise StartFailed(f"{title} does not start.", program.log)
        self.progress.step(f"{title} runs")

    def _run(self, program: Program, seconds: float) -> None:
        code = self.watch.once(program, seconds=seconds)
        if code != 0:
            what = f"`{' '.join(program.argv[1:3])}`"
            how = f"did not end within {seconds:.0f} s" if code is None else "failed"
            raise StartFailed(f"{what} {how}.", program.log)

    def _migrate(self, site: Site, environment: dict[str, str]) -> None:
        """Migrate, unless this embedded database has seen exactly these migrations before."""
        note = site.state.folder / "migrated"
        digest = migrations_digest()
        if self.postgres and not self.postgres.is_new:
            with suppress(OSError):
                if note.read_text() == digest:
                    return
        self.progress.step("bringing the database up to date")
        self._run(
            components.command(site, environment, "migrate", "--no-input", "--skip-checks"),
            MIGRATE_SECONDS,
        )
        if self.postgres:
            note.write_text(digest)

    def _credentials(self, site: Site, environment: dict[str, str], password: str) -> None:
        """At the first start make the first tenant; at every start write the addresses down."""
        database = self.postgres.url if self.postgres else given("DATABASE_URL")
        broker = given("BROKER_URL") or (self.valkey.broker_url if self.valkey else given("REDIS_URL"))
        known = site.state.read_credentials()
        fresh = not (known.get("token") and known.get("operator_token"))
        moved = self.postgres is None and known.get("database_url") != database
        if fresh or moved or (self.postgres is not None and self.postgres.is_new):
            self.progress.step("making the first tenant, user and tokens")
            known = first_start(
                site,
                environment,
                password,
                own_database=self.postgres is not None,
                run=self._run,
            )
        known |= {"url": site.url, "database_url": database, "broker_url": broker}
        order = ("url", "tenant", "token", "operator_token", "user", "password")
        site.state.write_credentials(
            {name: known.get(name) for name in (*order, "database_url", "broker_url")}
        )

    def _await_ready(self, site: Site) -> None:
        def settled() -> bool:
            return answers_at(site.url) or hopeless() is not None

        def hopeless() -> Program | None:
            for watched in self.watch.programs.values():
                if watched.starts >= HOPELESS_AFTER:
                    return watched.program
            return None

        good = self.watch.until(settled, seconds=READY_SECONDS)
        if program := hopeless():
            raise StartFailed(f"{program.name} does not start.", program.log)
        if not good:
            raise StartFailed(
                f"{site.url}/health/ready did not answer 200 within {READY_SECONDS:.0f} s.",
                site.state.logs / "web.log",
            )


def migrations_digest() -> str:
    """Return what changes whenever a migration does, ours or one of a locked package."""
    digest = hashlib.sha256((CHECKOUT / "requirements.txt").read_bytes())
    for path in sorted(CHECKOUT.glob("*/migrations/*.py")) + sorted(
        CHECKOUT.glob("platform/*/migrations/*.py")
    ):
        digest.update(str(path.relative_to(CHECKOUT)).encode() + path.read_bytes())
    return digest.hexdigest()


def answers_at(url: str) -> bool:
    """Whether the platform at an address says that it is ready."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=3)
    try:
        connection.request("GET", "/health/ready")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def default_state() -> Path:
    """Return the state folder that is used without ``--state``: beside the code."""
    return Path(os.environ.get("SWITCHYARD_STATE") or CHECKOUT / ".switchyard")
