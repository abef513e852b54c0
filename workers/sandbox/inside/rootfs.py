"""The file tree of level `full`: a small tmpfs with read-only binds, and the workspace.

The technique is bubblewrap's: mount a tmpfs, make it the root with the old root below it, bind from
there, and let the old root go. Everything stands at the path it has outside.
"""

from __future__ import annotations

import os
import stat

from . import kernel

BASE, OLD = "/tmp", "/.old"  # noqa: S108 - a mount point in our own mount namespace
READ_ONLY = kernel.MOUNT_ATTR_RDONLY | kernel.MOUNT_ATTR_NOSUID | kernel.MOUNT_ATTR_NODEV
OWN = kernel.MOUNT_ATTR_NOSUID | kernel.MOUNT_ATTR_NODEV
DEVICES = ("null", "zero", "full", "random", "urandom")
SHARED_MEMORY = "size=64m,mode=1777"
UID = GID = 1000
"""Who the handler is inside, whoever it is outside."""
_there = {"", "/"}


def build(binds: list[str], links: list[tuple[str, str]], workspace: str, temporary: str) -> None:
    """Enter a root that holds `binds` (read-only), `links` (path, target), the workspace and /tmp.

    Needs a new user, mount and pid namespace. `binds` are real paths, parents before children.
    """
    kernel.mount(None, "/", None, kernel.MS_REC | kernel.MS_SLAVE)
    kernel.mount("tmpfs", BASE, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=0755,size=1m")
    os.mkdir(BASE + OLD)
    kernel.syscall("pivot_root", BASE.encode(), (BASE + OLD).encode())
    os.chdir("/")
    _bind(temporary, OWN, "/tmp")  # noqa: S108 - the run's own folder; others may stand below it
    for path in binds:
        try:
            _bind(path, READ_ONLY)
        except FileNotFoundError:  # removed since the worker looked for it: nobody needs it any more
            continue
    _etc(workspace)
    for path, target in links:
        _folder(path.rpartition("/")[0])
        os.symlink(target, path)
    _dev()
    _folder("/proc")
    no_exec = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
    kernel.mount("proc", "/proc", "proc", no_exec)
    _bind(workspace, OWN)
    kernel.umount(OLD)
    os.rmdir(OLD)
    kernel.restrict_mount("/", READ_ONLY, recursive=False)


def _bind(path: str, attributes: int, target: str | None = None) -> None:
    source, target = OLD + path, target or path
    if stat.S_ISDIR(os.stat(source).st_mode):
        _folder(target)
    else:
        _touch(target)
    kernel.mount(source, target, None, kernel.MS_BIND | kernel.MS_REC)
    kernel.restrict_mount(target, attributes)


def _folder(path: str) -> None:
    """Make a folder and those above it; those that are known to be there are not looked at again."""
    if path in _there:
        return
    _folder(path.rpartition("/")[0])
    if not os.path.isdir(path):
        os.mkdir(path)
    _there.add(path)


def _touch(path: str, text: str = "") -> None:
    _folder(path.rpartition("/")[0])
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    if text:
        os.write(file, text.encode())
    os.close(file)


def _etc(home: str) -> None:
    """A user list with one user, so that programs which look themselves up (ssh) work."""
    _touch("/etc/passwd", f"handler:x:{UID}:{GID}::{home}/home:/bin/sh\n")
    _touch("/etc/group", f"handler:x:{GID}:\n")


def _dev() -> None:
    """The harmless devices, and shared memory and terminals of this run's own."""
    _folder("/dev/shm")  # noqa: S108
    for name in DEVICES:
        _touch(f"/dev/{name}")
        kernel.mount(f"{OLD}/dev/{name}", f"/dev/{name}", None, kernel.MS_BIND)
    for name, target in (("fd", "fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        os.symlink(f"/proc/self/{target}", f"/dev/{name}")
    own = kernel.MS_NOSUID | kernel.MS_NODEV
    kernel.mount("tmpfs", "/dev/shm", "tmpfs", own, SHARED_MEMORY)  # noqa: S108
    os.mkdir("/dev/pts")
    try:
        options = "newinstance,ptmxmode=0666,mode=0620"
        kernel.mount("devpts", "/dev/pts", "devpts", kernel.MS_NOSUID | kernel.MS_NOEXEC, options)
        os.symlink("pts/ptmx", "/dev/ptmx")
    except OSError:  # a kernel without them: programs that want a terminal say so themselves
        return
