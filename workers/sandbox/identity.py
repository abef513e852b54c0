"""Who processes are: undumpable supervisors, unprivileged workers, a user per handler.

Started as root, a worker gives root up for good (`drop_to`) and keeps three capabilities: to become
a handler's user, and to signal one. Each slot takes a user nobody else has (`acquire_identity`);
the launcher becomes that user and loses the capabilities. Nothing needs CAP_CHOWN or CAP_DAC_*:
what belongs to a handler is made and removed as that handler (`acting_as`).
"""

from __future__ import annotations

import fcntl
import os
import sys
import threading
from collections.abc import Callable, Iterable
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


def acquire_identity(folder: Path, count: int = LAST_UID - FIRST_UID + 1) -> HandlerIdentity:
    """A user that no other process of this machine has taken, for as long as this process lives.

    `folder` holds a lock file per user and is shared by all workers of the machine. The lock goes
    with the process, however that dies. Raises RuntimeError when all `count` users are taken.
    """
    for uid in range(FIRST_UID, FIRST_UID + count):
        lock = os.open(folder / f"uid-{uid}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            continue
        return HandlerIdentity(uid, uid)
    raise RuntimeError(f"All {count} handler users of this machine are taken.")


def acting_as(identity: HandlerIdentity | None, action: Callable[[], Result]) -> Result:
    """Do `action` with the file permissions of a handler's user, and return what it returns.

    In a thread of its own, because Linux keeps the file system user per thread: this thread's
    rights, and its death signal, stay as they are. Without an identity it is a plain call.
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

    thread = threading.Thread(target=act, name="acting-as-handler")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def reveal(paths: Iterable[Path]) -> bool:
    """Make private paths (a Python below /root) reachable for the users we are about to become.

    In a mount namespace of this process and its children: the closed folder above each path is
    covered by an empty tmpfs, and the path alone is bound back into it. To be called as root before
    `drop_to`; returns False when the kernel refuses (a container), where such paths stay closed.
    """
    hidden = [path for path in map(Path.resolve, paths) if _closed_parent(path) is not None]
    if not hidden:
        return True
    try:
        kernel.unshare(kernel.CLONE_NEWNS)
        kernel.mount(None, "/", None, kernel.MS_REC | kernel.MS_SLAVE)
        while hidden:
            parent = _closed_parent(hidden[0])
            if parent is None:
                hidden.pop(0)
                continue
            _uncover(parent, [path for path in hidden if path.is_relative_to(parent)])
    except OSError:
        return False
    return True


def _closed_parent(path: Path) -> Path | None:
    """The outermost folder above `path` that others may not pass through."""
    for parent in reversed(path.parents):
        if not parent.stat().st_mode & 0o001:
            return parent
    return None


def _uncover(folder: Path, kept: list[Path]) -> None:
    """Cover `folder` with an empty one that holds nothing but the way to each of `kept`."""
    handles = [os.open(path, 0o10000000) for path in kept]  # O_PATH: reachable once it is covered
    kernel.mount("tmpfs", str(folder), "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=0755")
    for path, handle in zip(kept, handles, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        if os.path.isdir(f"/proc/self/fd/{handle}"):
            path.mkdir(exist_ok=True)
        else:
            path.touch()
        flags = kernel.MS_BIND | kernel.MS_REC
        kernel.mount(f"/proc/self/fd/{handle}", str(path), None, flags)
        os.close(handle)
