"""A clean, warm process that forks handlers, or at level `full` what builds the walls around them.

Starting an interpreter and importing a handler costs more than most of what small runs do. So each
worker process execs one such server for each package of handlers: clean environment, no secrets, no
params, no descriptor of the worker's but the socket on which requests come. For each request it forks
a keeper and forgets it:

    server ──fork──► keeper ──fork──► handler
                     │                └ user of its own, rlimits, Landlock, seccomp: all after the fork,
                     │                  before a word of a tenant is read
                     └ subreaper and parent of all that the run starts; obeys the supervisor

    server ──fork──► launcher ──fork──► pid 1 ──fork──► walls ──exec──► handler     (level `full`)

A request is a message with seven or eight descriptors, to be 0 to 7 as `inside.launcher` lists them; it
says nothing else. The keeper, or launcher, answers `P<pid>` on the status socket, and only then is sent
the plan, on descriptor 5. So nothing about a run ever passes through the server, from which the next one
is forked. A plan that does not come means that the supervisor has gone another way.

The keeper ends the run's whole tree when the handler ends, when it is told to, and when the
supervisor's end of the status socket closes; if it is killed itself, the handler dies with it. At
level `full` pid 1 does all this (`inside.reaper`).
"""

from __future__ import annotations

import gc
import marshal
import os
import socket
import sys
from _signal import SIG_DFL, SIG_IGN, SIGCHLD, signal  # type: ignore[import-not-found]
from importlib import import_module

from . import handler, kernel, launcher, reaper, seccomp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

REQUESTS = launcher.CONTROL
FEWEST, MOST = launcher.STATUS + 1, launcher.EGRESS + 1
"""How many descriptors a request has: in the keeper they are 0, 1, 2 and so on."""


def main() -> NoReturn:
    """Import what the plan on descriptor 5 names, then fork for each request until none can come."""
    plan: dict[str, Any] = marshal.loads(launcher.read_plan())  # noqa: S302 - written by our worker
    kernel.die_with_parent(plan["parent"])
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    _load(plan)
    requests = socket.socket(fileno=REQUESTS)
    signal(SIGCHLD, SIG_IGN)  # what we fork reports to its supervisor; the kernel buries it
    os.environ.clear()
    _occupy_low_descriptors()
    gc.collect()
    gc.freeze()
    while True:
        message, received, _flags, _address = socket.recv_fds(requests, 16, MOST)
        if not message:
            os._exit(0)
        # What is forked here is our own code; other people's is forked from that as Python forks.
        if FEWEST <= len(received) <= MOST and kernel.fork() == 0:
            _begin(received)
        for descriptor in received:
            os.close(descriptor)


def _load(plan: dict[str, Any]) -> None:
    """Import all that handlers and keepers need, and make what they would make each."""
    handler.import_ours(plan["roots"], plan["python_path"])
    for module in plan["modules"]:
        try:
            import_module(module)
        except BaseException:  # whatever it is, a run of such a handler meets it again and tells it
            sys.stderr.write(f"{module} could not be imported by the handler server.\n")
    import workers.sandbox.tree  # noqa: F401 - keepers use it

    seccomp.prepare()


def _occupy_low_descriptors() -> None:
    """Leave those that arrive with a request no number that one of them is to have."""
    while (last := os.open(os.devnull, os.O_RDONLY)) < MOST:
        pass
    os.close(last)


def _begin(received: list[int]) -> NoReturn:
    """Become the process of one run whose descriptors these are."""
    try:
        for number, each in enumerate(received):
            os.dup2(each, number)
        kernel.close_descriptors_from(len(received))
        signal(SIGCHLD, SIG_DFL)
        os.write(launcher.STATUS, b"P%d" % os.getpid())
        told = launcher.read_plan()
        if not told:
            os._exit(0)
        plan: dict[str, Any] = marshal.loads(told)  # noqa: S302 - written by our supervisor
        kernel.set_name(plan["name"])
        if plan["level"] == "full":
            plan["parent"] = 0  # our server: pid 1 sees by the status socket when the supervisor goes
        else:
            _keep(plan)
    except BaseException as error:
        launcher.refuse(str(error) or type(error).__name__)
    launcher.set_environment(plan["environment"])
    launcher.shut_in(plan)


def _keep(plan: dict[str, Any]) -> None:
    """Fork the handler and be its keeper; only the handler returns."""
    from workers.sandbox.tree import kill_tree

    os.setsid()
    kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
    plan["parent"] = os.getpid()
    guarded = kernel.fork() if plan["our_code"] else os.fork()
    if guarded:
        reaper.serve(guarded, launcher.STATUS, lambda: kill_tree(guarded, ()))
