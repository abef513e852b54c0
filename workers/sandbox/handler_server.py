"""The worker's side of its handler servers (`inside.server`): starting them, and asking for a handler.

The worker's main process starts them, and looks after them before it forks a supervisor; supervisors
inherit the sockets. Whatever is wrong with a server, a run is never lost to it: `ask` returns None,
and the handler is exec'd as if there were no servers.
"""

from __future__ import annotations

import marshal
import os
import select
import signal
import socket
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

import structlog

from workers.sandbox import paths
from workers.sandbox.executing import execute, high
from workers.sandbox.inside import launcher, server
from workers.sandbox.launch import Launch, Level

ENVIRONMENT = {"PATH": os.defpath, "LANG": "C.UTF-8", "LD_BIND_NOW": "1"}
"""The variables that a server has: none of ours. The last has functions of libraries looked up before it
forks, not by each that is forked; what a server forks inherits none of them."""
BUILT_IN = "workers.handlers"
WALLS = "walls"
"""The name of the server at level `full`, which builds walls."""
FORKED_BEHIND_WALLS = "workers.handlers.shell"
"""The one module of handlers that it knows: they turn params into a program, and exec that."""
ANSWER_SECONDS = 2.0
"""A server that has forked no keeper by then is passed over for this run."""

log = structlog.get_logger(__name__)


class HandlerServer:
    """The server of one package of handlers: it imports ``modules``, also from ``python_path``."""

    def __init__(self, modules: Sequence[str], python_path: Sequence[str] = ()) -> None:
        self.modules = tuple(modules)
        self.python_path = tuple(python_path)
        self.pid = 0
        self._requests: socket.socket | None = None

    def start(self) -> None:
        """Start it, or start it again; it need not be ready before it is asked."""
        self.close()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        plan, write = os.pipe()
        described = {
            "parent": os.getpid(),
            "roots": list(paths.ROOTS),
            "python_path": [*map(str, paths.site_packages()), *self.python_path],
            "modules": list(self.modules),
        }
        os.write(write, marshal.dumps(described))
        os.close(write)
        passed = {
            0: high(os.open(os.devnull, os.O_RDONLY)),
            1: high(os.open(os.devnull, os.O_WRONLY)),
            2: high(os.dup(2)),
            server.REQUESTS: high(theirs.detach()),
            launcher.PLAN: high(plan),
        }
        try:
            self.pid = execute("server", passed, ENVIRONMENT)
            self._requests = ours
        except OSError as error:
            log.error("handler_server_not_started", error=str(error))
            ours.close()
        finally:
            for descriptor in passed.values():
                os.close(descriptor)

    def keep_running(self) -> None:
        """Start it again if it has ended (in the process that started it)."""
        if not self.pid:
            return
        ended = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG)
        if ended is not None:
            log.warning("handler_server_ended", modules=self.modules, status=ended.si_status)
            self.start()

    def close(self) -> None:
        """Let it end once nobody can ask it any more."""
        if self._requests is not None:
            self._requests.close()
            self._requests = None
        self.pid = 0

    def end(self) -> None:
        """End it at once, and bury it; what it has forked and still runs, dies with it."""
        pid = self.pid
        self.close()
        if pid:
            with suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)

    def ask(self, theirs: Mapping[int, int], status: socket.socket) -> int | None:
        """Have a keeper forked that holds these descriptors; its pid, or None if there is none in time.

        ``theirs`` are descriptors by the numbers that they will have, ``status`` is our end of the
        socket on which it answers.
        """
        if self._requests is None:
            return None
        descriptors = [theirs[number] for number in sorted(theirs)]
        try:
            socket.send_fds(self._requests, [b"F"], descriptors, socket.MSG_DONTWAIT)
        except OSError:
            return None
        poller = select.poll()
        poller.register(status, select.POLLIN)
        if not poller.poll(ANSWER_SECONDS * 1000):
            log.warning("handler_server_silent", modules=self.modules)
            return None
        answer = status.recv(64)
        return int(answer[1:]) if answer[:1] == b"P" else None

    def has_ended(self) -> bool:
        """Whether it lives no more, seen from the process that started it or from one forked since."""
        if self._requests is None:
            return True
        poller = select.poll()
        poller.register(self._requests, 0)
        return bool(poller.poll(0))


_servers: dict[str, HandlerServer] = {}


def start_servers(modules: Iterable[str], python_path: Sequence[str] = ()) -> None:
    """Start one server for each package among these handlers' modules."""
    packages: dict[str, list[str]] = {}
    for module in modules:
        packages.setdefault(package_of(module), []).append(module)
    for package, its_modules in packages.items():
        _servers[package] = HandlerServer(its_modules, python_path)
        _servers[package].start()


def start_wall_server() -> None:
    """Start the server of level `full`: what it forks builds the walls and execs what is to run."""
    _servers[WALLS] = HandlerServer((FORKED_BEHIND_WALLS,))
    _servers[WALLS].start()


def keep_servers_running() -> None:
    """Start those again that have ended."""
    for each in _servers.values():
        each.keep_running()


def close_servers() -> None:
    """End all servers, in the process that started them, and use none from now on."""
    while _servers:
        _servers.popitem()[1].end()


def server_for(launch: Launch) -> HandlerServer | None:
    """Return the server that may fork what ``launch`` describes, if there is one.

    A program needs nothing imported, so any server will do.
    """
    if launch.level is Level.FULL:
        return _servers.get(WALLS)
    if launch.job is None:
        return _servers.get(BUILT_IN)
    server = _servers.get(package_of(launch.job["handler"].partition(":")[0]))
    same_path = server is not None and server.python_path == tuple(launch.job.get("python_path", ()))
    return server if same_path else None


def becomes_a_program(handler: str) -> bool:
    """Whether a handler is our own code up to the program that it execs.

    So at level `full` it needs no interpreter of its own.
    """
    return handler.partition(":")[0] == FORKED_BEHIND_WALLS


def package_of(module: str) -> str:
    """Return what shares a server: the built-in handlers, or an installed package."""
    return BUILT_IN if module.startswith(f"{BUILT_IN}.") else module.partition(".")[0]
