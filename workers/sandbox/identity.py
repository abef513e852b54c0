"""Who processes are: undumpable supervisors, unprivileged workers, a user per handler.

Started as root, a worker gives root up for good (`drop_to`) and keeps three capabilities: to become
a handler's user, and to signal one. Each slot takes a user nobody else has (`acquire_identity`);
the launcher becomes that user and loses the capabilities. Nothing needs CAP_CHOWN or CAP_DAC_*:
what belongs to a handler is made and removed as that handler (`acting_as`).
"""

from __future__ import annotations

import _thread
import fcntl
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from workers.sandbox.inside import kernel
from workers.sandbox.launch import HandlerIdentity

Result = TypeVar("Result")

FIRST_UID, LAST_UID = 61184, 65519
"""systemd's range for dynamic users: no distribution gives these numbers to anybody."""

CAP_KILL, CAP_SETGID, CAP_SETUID = 5, 6, 7
KEPT = 1 << CAP_KILL | 1 << CAP_SETGID | 1 << CAP_SETUID


def harden_self() -> None:
    """Make this process undumpable: no process of the same user reads its memory or environment."""
    if sys.platform == "linux":
        kernel.prctl(kernel.PR_SET_DUMPABLE, 0)


def drop_to(uid: int, gid: int, keep_setuid: bool = True) -> None:
    """Become an ordinary user, irrevocably; children and what they exec inherit that.

    With `keep_setuid` CAP_SETUID, CAP_SETGID and CAP_KILL stay, as ambient capabilities, so that
    handlers can be given users of their own. Raises PermissionError when not started as root.
    Whoever can become any user can become root's number again, but without root's capabilities.
    """
    kept = KEPT if keep_setuid else 0
    kernel.drop_bounding_set(kept)
    kernel.prctl(kernel.PR_SET_KEEPCAPS, 1 if kept else 0)
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    kernel.set_capabilities(kept)
    for capability in range(32):
        if kept >> capability & 1:
            kernel.prctl(kernel.PR_CAP_AMBIENT, kernel.PR_CAP_AMBIENT_RAISE, capability)
    harden_self()


def may_become_others() -> bool:
    """Whether this process holds the capabilities to run handlers as other users."""
    status = Path("/proc/self/status").read_text()
    effective = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    return int(effective.split()[1], 16) & KEPT == KEPT


_locks: list[int] = []
"""Of the users that this process has taken."""


def acquire_identity(folder: Path, count: int = LAST_UID - FIRST_UID + 1) -> HandlerIdentity:
    """A user that no other process of this machine has taken, for as long as this process lives.

    `folder` holds a lock file per user and is shared by all workers of the machine. The lock goes
    with the process, however that dies, or with `release_identities`. Raises RuntimeError when all
    `count` users are taken.
    """
    for uid in range(FIRST_UID, FIRST_UID + count):
        lock = os.open(folder / f"uid-{uid}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            continue
        _locks.append(lock)
        return HandlerIdentity(uid, uid)
    raise RuntimeError(f"All {count} handler users of this machine are taken.")


def release_identities() -> None:
    """Let others have the users that this process has taken; nothing of theirs may run any more."""
    while _locks:
        os.close(_locks.pop())


def acting_as(identity: HandlerIdentity | None, action: Callable[[], Result]) -> Result:
    """Do `action` with the file permissions of a handler's user, and return what it returns.

    In a thread of its own, because Linux keeps the file system user per thread: this thread's
    rights, and its death signal, stay as they are. Without an identity it is a plain call.
    A bare thread: each run needs two, and one of `threading` brings an event and its locks along.
    """
    if identity is None:
        return action()
    results: list[Result] = []
    errors: list[BaseException] = []

    def act() -> None:
        try:
            kernel.set_filesystem_identity(identity.uid, identity.gid)
            results.append(action())
        except BaseException as error:  # handed to the caller's thread, whatever it is
            errors.append(error)
        finally:
            done.release()

    done = _thread.allocate_lock()
    done.acquire()
    _thread.start_new_thread(act, ())
    done.acquire()
    if errors:
        raise errors[0]
    return results[0]
