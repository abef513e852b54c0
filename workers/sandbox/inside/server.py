"""A clean, warm process that forks handlers, for the levels below `full`.

Starting an interpreter and importing a handler costs more than most of what small runs do. So each
worker process execs one such server for each package of handlers: clean environment, no secrets, no
params, no descriptor of the worker's but the socket on which requests come. For each request it forks
a keeper and forgets it:

    server ──fork──► keeper ──fork──► handler
                     │                └ user of its own, rlimits, Landlock, seccomp: all after the fork,
                     │                  before a word of a tenant is read
                     └ subreaper and parent of all that the run starts; obeys the supervisor

A request is a message with seven descriptors, to be 0 to 6 as `inside.launcher` lists them; it says
nothing else. The keeper answers `P<pid>` on the status socket, and only then is sent the plan, on
descriptor 5. So nothing about a run ever passes through the server, from which the next one is
forked. A plan that does not come means that the supervisor has gone another way.

The keeper ends the run's whole tree when the handler ends, when it is told to, and when the
supervisor's end of the status socket closes; if it is killed itself, the handler dies with it.
"""

from __future__ import annotations

import fcntl
import gc
import marshal
import os
import socket
import sys
from _signal import SIG_DFL, SIG_IGN, SIGCHLD, signal  # type: ignore[import-not-found]
from importlib import import_module

from . import kernel, launcher, reaper

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

REQUESTS = launcher.CONTROL
HIGH = 16
"""Descriptors that arrive are first moved up here, so that none is overwritten by another."""
CARRIED = (0, 1, 2, launcher.CONTROL, launcher.MESSAGES, launcher.PLAN, launcher.STATUS)
"""What the descriptors of a request become in the keeper, in their order."""


def main() -> NoReturn:
    """Import what the plan on descriptor 5 names, then fork for each request until none can come."""
    with open(launcher.PLAN, "rb") as file:
        plan: dict[str, Any] = marshal.load(file)  # noqa: S302 - written by our worker
    kernel.die_with_parent(plan["parent"])
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    launcher.import_ours(plan)
    for module in plan["modules"]:
        try:
            import_module(module)
        except BaseException:  # whatever it is, a run of such a handler meets it again and tells it
            sys.stderr.write(f"{module} could not be imported by the handler server.\n")
    from workers.sandbox import tree

    kept = tree.kill_tree  # imported here and not in each keeper
    requests = socket.socket(fileno=REQUESTS)
    signal(SIGCHLD, SIG_IGN)  # keepers report to their supervisors; the kernel buries them
    gc.collect()
    gc.freeze()
    while True:
        message, received, _flags, _address = socket.recv_fds(requests, 16, len(CARRIED))
        if not message:
            os._exit(0)
        if len(received) == len(CARRIED) and os.fork() == 0:
            _keep(received, kept)
        for descriptor in received:
            os.close(descriptor)


def _keep(received: list[int], kill_tree: Any) -> None:
    """Be the keeper of one run; only the handler that it forks returns from here, never."""
    try:
        high = [fcntl.fcntl(each, fcntl.F_DUPFD, HIGH) for each in received]
        for each, number in zip(high, CARRIED, strict=True):
            os.dup2(each, number)
        kernel.close_descriptors_from(launcher.STATUS + 1)
        signal(SIGCHLD, SIG_DFL)
        os.setsid()
        kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
        os.write(launcher.STATUS, b"P%d" % os.getpid())
        with open(launcher.PLAN, "rb") as file:
            told = file.read()
        if not told:
            os._exit(0)
        plan: dict[str, Any] = marshal.loads(told)  # noqa: S302 - written by our supervisor
        plan["parent"] = os.getpid()
        handler = os.fork()
        if handler:
            reaper.serve(handler, launcher.STATUS, lambda: kill_tree(handler, ()))
    except BaseException as error:
        launcher.refuse(str(error) or type(error).__name__)
    os.environ.clear()
    os.environ.update(plan["environment"])
    launcher.shut_in(plan)
