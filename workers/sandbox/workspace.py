"""The folder of one run: made private, measured, looked into, and wiped without following anything.

    <base>/<name>/work   where the handler starts, and where a checkout goes
    <base>/<name>/home   HOME
    <base>/<name>/tmp    TMPDIR, and /tmp itself at level full

All of it belongs to the handler's user, mode 0700; the size is a sampled limit (`measuring`),
the size of one file a hard one (RLIMIT_FSIZE). Between two samples a run can fill the disk that the
base is on: give the base a file system of its own where that matters.
"""

from __future__ import annotations

import contextlib
import os
import random
import stat
import uuid
from pathlib import Path

from workers.sandbox.identity import acting_as
from workers.sandbox.launch import HandlerIdentity

WORK, HOME, TEMPORARY = "work", "home", "tmp"
O_PATH = 0o10000000


NO_TASKS_BITS = 48
"""A UUID with no higher bit is no task's: those of tasks begin with the time."""


class WorkspaceError(Exception):
    """A workspace could not be made or not be removed completely; the text names the path."""


def id_of_no_task() -> uuid.UUID:
    """Return a new name for what runs although there is no task of it (a rehearsal)."""
    return uuid.UUID(int=random.getrandbits(NO_TASKS_BITS))


def is_of_no_task(task_id: uuid.UUID) -> bool:
    """Whether this is such a name: the database knows nothing of it, and nobody misses what has it."""
    return task_id.int >> NO_TASKS_BITS == 0


def make_workspace(base: Path, name: str, identity: HandlerIdentity | None = None) -> Path:
    """Make the folders of a run and return the outer one.

    `base` must exist and let the handler's user create folders (mode 1733 with identities).
    Raises WorkspaceError when the name is taken: two runs never share a workspace.
    """
    root = base / name

    def make() -> None:
        outer = os.fspath(root)
        os.mkdir(outer, 0o700)
        for name in (WORK, HOME, TEMPORARY):
            os.mkdir(f"{outer}/{name}", 0o700)

    try:
        acting_as(identity, make)
    except OSError as error:
        raise WorkspaceError(f"The workspace {root} cannot be made: {error.strerror}.") from error
    return root


def work_folder(workspace: Path) -> Path:
    """Where the handler starts; paths in params and artifacts are relative to it."""
    return workspace / WORK


def wipe_workspace(workspace: Path, identity: HandlerIdentity | None = None) -> None:
    """Remove a run's folder and all in it; nothing there is fine, anything left is an error.

    Links are removed, never followed; folders without permissions are opened first (they are
    ours); depth costs nothing, because each folder is moved up before it is emptied.
    """
    try:
        acting_as(identity, lambda: _wipe(workspace))
    except OSError as error:
        raise WorkspaceError(f"The workspace {workspace} cannot be wiped: {error}.") from error
    if os.path.lexists(workspace):
        raise WorkspaceError(f"The workspace {workspace} is still there after it was wiped.")


def open_inside(workspace: Path, relative: str, identity: HandlerIdentity | None = None) -> int:
    """Open a regular file of the work folder for reading, with no link in its path.

    The handler chose the path, so each part is opened by itself and never followed out. Raises
    WorkspaceError when it is missing, a link, or no regular file (a pipe would block for ever).
    """
    parts = [part for part in relative.split("/") if part not in ("", ".")]
    if not parts or ".." in parts or relative.startswith("/"):
        raise WorkspaceError(f"{relative!r} is no path inside the workspace.")

    def walk() -> int:
        here = os.open(workspace / WORK, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        for part in parts[:-1]:
            below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=here)
            os.close(here)
            here = below
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            return os.open(parts[-1], flags, dir_fd=here)
        finally:
            os.close(here)

    try:
        file = acting_as(identity, walk)
    except OSError as error:
        raise WorkspaceError(f"{relative!r} cannot be opened: {error.strerror}.") from None
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise WorkspaceError(f"{relative!r} is no regular file.")
    return file


def _wipe(workspace: Path) -> None:
    try:
        parent = os.open(workspace.parent, O_PATH | os.O_DIRECTORY)
        root = _open_folder(workspace.name, parent)
    except FileNotFoundError:
        return
    try:
        waiting = _empty(root, root, 0)
        count = len(waiting)
        while waiting:
            name = waiting.pop()
            folder = _open_folder(name, root)
            more = _empty(folder, root, count)
            os.close(folder)
            count += len(more)
            waiting += more
            os.rmdir(name, dir_fd=root)
        os.rmdir(workspace.name, dir_fd=parent)
    finally:
        os.close(root)
        os.close(parent)


def _empty(folder: int, root: int, count: int) -> list[str]:
    """Remove the files of a folder and move its folders up into `root`; their new names there."""
    moved: list[str] = []
    names = os.listdir(folder)
    for name in names:
        if not stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            os.unlink(name, dir_fd=folder)
            continue
        with contextlib.suppress(OSError):  # most are empty, and need not be looked into
            os.rmdir(name, dir_fd=folder)
            continue
        unlocked = _open_folder(name, folder)
        os.close(unlocked)
        new = f".wiped-{count + len(moved)}"
        while folder == root and new in names and new != name:
            count += 1
            new = f".wiped-{count + len(moved)}"
        os.rename(name, new, src_dir_fd=folder, dst_dir_fd=root)
        moved.append(new)
    return moved


def _open_folder(name: str, parent: int) -> int:
    """Open a folder of ours for work, whatever its permissions are; never a link."""
    flags = O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW
    handle = os.open(name, flags, dir_fd=parent)
    try:
        with contextlib.suppress(PermissionError):
            os.chmod(f"/proc/self/fd/{handle}", 0o700)
        return os.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_DIRECTORY)
    finally:
        os.close(handle)
