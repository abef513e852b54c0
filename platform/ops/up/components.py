"""Switchyard's own processes, in the order in which they start.

What production runs as containers runs here as child processes: the same commands, the same
settings.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from ops.namespace import entering
from ops.pools.workers import seconds_to_stop
from ops.supervision.programs import Program
from ops.up.site import CHECKOUT, Site, given

# What the pool manager needs besides its workers' own time: its pooler's grace and its last words.
POOL_MARGIN = 15.0


def web(site: Site, environment: dict[str, str], listener: socket.socket) -> Program:
    """The web process: API, pages, sockets."""
    descriptor = listener.fileno()
    return _component(
        site,
        "web",
        environment,
        (sys.executable, "-m", "ops.up.serve", str(descriptor)),
        keep_descriptors=(descriptor,),
        grace=8.0,
    )


def dispatcher(site: Site, environment: dict[str, str]) -> Program:
    """The process that decides which task goes next."""
    return _component(site, "dispatcher", environment, _manage("dispatch"))


def beat(site: Site, environment: dict[str, str]) -> Program:
    """The clock."""
    return _component(site, "beat", environment, _celery("beat"), grace=5.0)


def system_worker(site: Site, environment: dict[str, str]) -> Program:
    """The small worker of the platform's own chores."""
    heartbeat = site.state.workers / "system"
    return _component(
        site,
        "system",
        environment | {"SWITCHYARD_WORKER_FILE": str(heartbeat)},
        _celery(
            "worker",
            *("-Q", "system", "-n", f"system@{socket.gethostname()}", "--concurrency", "2"),
            *("--without-gossip", "--without-mingle", "--without-heartbeat"),
        ),
        heartbeat=heartbeat,
    )


def pools(site: Site, environment: dict[str, str]) -> Program:
    """The pool manager, which runs this machine's workers."""
    return _component(
        site,
        "pools",
        environment,
        _manage("pools", "--logs", str(site.state.logs)),
        keep_setuid=True,
        grace=drain_seconds(environment) + POOL_MARGIN,
    )


def drain_seconds(environment: dict[str, str]) -> float:
    """Return how long the pools may take to end: running tasks finish, or are interrupted.

    Raises:
        StateError: when a setting is in a file that cannot be read.
    """
    defaults = {"SWITCHYARD_DRAIN": 60.0, "SWITCHYARD_CANCEL_GRACE": 10.0}
    found = []
    for name, default in defaults.items():
        try:
            found.append(float(given(name, environment) or default))
        except ValueError:
            found.append(default)  # the settings refuse it with a better sentence
    return seconds_to_stop(*found)


def command(site: Site, environment: dict[str, str], name: str, *arguments: str) -> Program:
    """A management command that runs to its end before the components start."""
    return _component(site, "manage", environment, _manage(name, *arguments), log=name)


def _manage(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, str(CHECKOUT / "manage.py"), *arguments)


def _celery(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "workers", *arguments)


def _component(
    site: Site,
    role: str,
    environment: dict[str, str],
    argv: tuple[str, ...],
    *,
    keep_descriptors: tuple[int, ...] = (),
    grace: float = 10.0,
    heartbeat: Path | None = None,
    keep_setuid: bool = False,
    log: str | None = None,
) -> Program:
    account = site.accounts.service
    become: Callable[[], None]
    if keep_setuid and account.switch:
        # Only the pool manager may still change users: its handlers run as an account of their own.
        from workers.sandbox.identity import drop_to

        become = partial(drop_to, account.uid, account.gid, keep_setuid=True)
    else:
        become = account.become
    return Program(
        name=role,
        argv=argv,
        environment=environment | {"SWITCHYARD_ROLE": role},
        directory=CHECKOUT,
        log=site.state.logs / f"{log or role}.log",
        enter=entering(account, site.namespace, become),
        keep_descriptors=keep_descriptors,
        grace=grace,
        heartbeat=heartbeat,
    )
