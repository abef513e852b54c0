"""From exec to handler: every wall is built and shut in here, before any word of a tenant is read.

Order, at every level:
 1. a session of its own, no foreign descriptors
 2. the handler's own user, no capabilities, death with the supervisor, NO_NEW_PRIVS, undumpable
 3. `full`: namespaces, an init (`reaper`) as pid 1, a root of its own (`rootfs`)
 4. rlimits
 5. `full`, `container`: Landlock, then seccomp
 6. the handler, in this interpreter or (`full`) in one of its own (`handler`), or a program

Descriptors: 0 /dev/null, 1 stdout, 2 stderr, 3 orders in, 4 messages out, 5 the plan (marshal, from
the supervisor), 6 status (a socket to the supervisor), 7 where the egress listener is handed out.
Status: `F<text>` a step was refused; `X<wait status> <cpu seconds> <max rss KiB>` from the reaper.
"""

from __future__ import annotations

import marshal
import os
import resource
from _signal import SIG_DFL, SIG_SETMASK, SIGPIPE, SIGXFSZ, pthread_sigmask, signal  # type: ignore[import-not-found]

from . import handler, kernel, landlock, reaper, rootfs, seccomp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

CONTROL, MESSAGES, PLAN, STATUS, EGRESS = 3, 4, 5, 6, 7
OOM_SCORE, FIRST_TO_GO = "/proc/self/oom_score_adj", "500"
"""A machine without memory kills a handler before its supervisor or a server."""
REFUSED = 125
"""Exit code when the sandbox could not be built; the status says why."""


def main() -> NoReturn:
    """Carry out the plan on descriptor 5; never returns."""
    try:
        plan: dict[str, Any] = marshal.loads(read_plan())  # noqa: S302 - written by our supervisor
        kernel.set_name(plan["name"])
        if not plan["argv"]:
            handler.import_ours(plan["roots"], plan["python_path"])
    except Exception as error:
        refuse(str(error) or type(error).__name__)
    shut_in(plan)


def read_plan() -> bytes:
    """Return what is on descriptor 5, and close it."""
    told = b""
    while more := os.read(PLAN, 65536):
        told += more
    os.close(PLAN)
    return told


def shut_in(plan: dict[str, Any]) -> NoReturn:
    """Build the walls around this process and become the handler."""
    try:
        if plan["level"] == "full":
            _full(plan)
        else:
            _own_session(plan)
            _undumpable()
            _shut(plan)
    except Exception as error:
        refuse(str(error) or type(error).__name__)
    os.close(STATUS)
    _go(plan)


def refuse(reason: str) -> NoReturn:
    """Tell the supervisor which step failed, and end."""
    os.write(STATUS, b"F" + reason.encode()[:4000])
    os._exit(REFUSED)


def _own_session(plan: dict[str, Any]) -> None:
    """Be nobody's neighbour: own session, own user, no power, and dead when the supervisor is."""
    os.setsid()
    if os.access(OOM_SCORE, os.W_OK):
        _write(OOM_SCORE, FIRST_TO_GO)
    mine = (CONTROL, MESSAGES, STATUS, EGRESS) if plan["egress"] else (CONTROL, MESSAGES, STATUS)
    kernel.close_descriptors_from(mine[-1] + 1)
    for descriptor in mine:
        os.set_inheritable(descriptor, False)
    if plan["identity"]:
        uid, gid = plan["identity"]
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    if plan["level"] != "full":  # a new user namespace takes the outer capabilities away by itself
        kernel.drop_all_capabilities()
    if plan["parent"]:
        kernel.die_with_parent(plan["parent"])
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)


def _undumpable() -> None:
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)


def _full(plan: dict[str, Any]) -> None:
    """Split into this process (waits), the reaper (pid 1) and the handler, which alone returns."""
    _own_session(plan)
    # The user may just have changed, and only a dumpable process may write its own maps.
    kernel.prctl(kernel.PR_SET_DUMPABLE, 1)
    uid, gid = os.geteuid(), os.getegid()
    kernel.unshare(
        kernel.CLONE_NEWUSER
        | kernel.CLONE_NEWPID
        | kernel.CLONE_NEWNS
        | kernel.CLONE_NEWNET
        | kernel.CLONE_NEWIPC
        | kernel.CLONE_NEWUTS
        | kernel.CLONE_NEWCGROUP
    )
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/uid_map", f"{rootfs.UID} {uid} 1")
    _write("/proc/self/gid_map", f"{rootfs.GID} {gid} 1")
    _undumpable()
    alive, keep = os.pipe()
    first = kernel.fork()
    if first:
        _wait_for(first, keep)
    os.close(keep)
    kernel.die_with_parent(0)
    os.set_blocking(alive, False)
    try:
        if not os.read(alive, 1):
            os._exit(REFUSED)
    except BlockingIOError:
        os.close(alive)
    rootfs.build(plan["binds"], plan["links"], plan["workspace"], plan["temporary"])
    kernel.set_hostname("sandbox")
    kernel.bring_up_loopback()
    if plan["egress"]:
        reaper.hand_out_listener(EGRESS, plan["egress"])
    kernel.drop_all_capabilities()
    guarded = kernel.fork()
    if guarded:
        os.setsid()
        reaper.serve(guarded, STATUS)
    os.setsid()
    kernel.die_with_parent(1)
    _shut(plan)


def _wait_for(first: int, keep: int) -> NoReturn:
    """Stay as the process the supervisor knows: it ends when pid 1, and so the whole tree, has.

    Only `keep` stays open: pid 1 sees by it that we were there when it asked to die with us.
    """
    os.dup2(keep, 0)
    kernel.close_descriptors_from(1)
    os.waitpid(first, 0)
    os._exit(0)


def _shut(plan: dict[str, Any]) -> None:
    """Limits, Landlock and seccomp: from here on nothing can be opened up again."""
    _limit(plan["limits"])
    if plan["level"] == "process":
        return
    landlock.restrict(plan["readable"], plan["writable"], tcp=plan["internet"])
    seccomp.install(own=plan["level"] == "full", internet=plan["internet"])


def _limit(limits: dict[str, int]) -> None:
    """Set rlimits by their name in `resource`; a CPU limit warns (SIGXCPU) 5 s before it kills."""
    for name, value in limits.items():
        which = getattr(resource, name)
        hard = resource.getrlimit(which)[1]
        ceiling = value + 5 if name == "RLIMIT_CPU" else value
        if hard != resource.RLIM_INFINITY:
            ceiling = min(ceiling, hard)
        resource.setrlimit(which, (min(value, ceiling), ceiling))


def _go(plan: dict[str, Any]) -> NoReturn:
    """Become the handler, or the program."""
    set_environment(plan["env"])
    os.chdir(plan["cwd"])
    if not plan["argv"]:
        handler.run()
    if plan["is_handler"]:
        for descriptor in handler.PIPES:
            os.set_inheritable(descriptor, True)
    else:
        signal(SIGPIPE, SIG_DFL)
        signal(SIGXFSZ, SIG_DFL)
        pthread_sigmask(SIG_SETMASK, ())
    try:
        os.execvpe(plan["argv"][0], plan["argv"], os.environ)  # noqa: S606 - no shell is the point
    except OSError as error:
        os.write(2, f"{plan['argv'][0]}: {error.strerror}\n".encode())
        os._exit(127)


def set_environment(variables: dict[str, str]) -> None:
    """Add these to the environment; `update` would look first what kind of mapping they are."""
    for name, value in variables.items():
        os.environ[name] = value


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
