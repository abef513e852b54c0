"""How much of a disk a run takes, however it hides that.

What lies in its workspace is counted as blocks, an empty file as one: its inode is taken too. Folders
that the run has closed to itself, and so to us, are opened while we look. Files that were removed and
are still written to are found by the descriptors that hold them, where the kernel shows us those (not
where a handler is undumpable and of the same user).
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from workers.sandbox.identity import acting_as
from workers.sandbox.launch import HandlerIdentity
from workers.sandbox.workspace import O_PATH, WorkspaceError

BLOCK = 512
"""What `st_blocks` counts, on every file system."""
LEAST = 4096
"""What an entry counts at least."""
MOST_CLOSED = 100
"""Folders that are opened at once; a run that has closed more hides something."""


def workspace_bytes(
    workspace: Path, identity: HandlerIdentity | None = None, *, enough: int | None = None
) -> int:
    """Return the bytes on disk below a workspace; what vanishes while we look counts nothing.

    Above ``enough`` the rest is not looked at. Raises WorkspaceError when too many folders are closed.
    """
    return acting_as(identity, lambda: _measure(os.fspath(workspace), enough))


def unlinked_bytes(pids: Iterable[int], workspace: Path, identity: HandlerIdentity | None = None) -> int:
    """Return the bytes on a workspace's disk of files that have no name any more and are held open."""
    device = os.stat(workspace).st_dev
    return acting_as(identity, lambda: sum(_unlinked(pids, device).values()))


def _measure(root: str, enough: int | None) -> int:
    total = 0
    opened: list[tuple[int, int]] = []
    waiting = [root]
    try:
        while waiting and (enough is None or total <= enough):
            folder = waiting.pop()
            try:
                size, below = _look(folder)
            except PermissionError:
                if len(opened) >= MOST_CLOSED:
                    raise WorkspaceError(f"More than {MOST_CLOSED} folders are closed.") from None
                if _open(folder, opened):
                    waiting.append(folder)
                continue
            except OSError:
                continue
            total += size
            waiting += below
    finally:
        for handle, mode in reversed(opened):
            _close_again(handle, mode)
    return total


def _look(folder: str) -> tuple[int, list[str]]:
    """Return the bytes of a folder's entries, and the folders among them."""
    size, below = 0, []
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                found = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            size += max(found.st_blocks * BLOCK, LEAST)
            if stat.S_ISDIR(found.st_mode):
                below.append(entry.path)
    return size, below


def _open(folder: str, opened: list[tuple[int, int]]) -> bool:
    """Open a folder of the run's for a look, never a link; ``opened`` knows how it was."""
    try:
        handle = os.open(folder, O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        mode = stat.S_IMODE(os.fstat(handle).st_mode)
        os.chmod(f"/proc/self/fd/{handle}", mode | stat.S_IRWXU)
    except OSError:  # not the run's own
        os.close(handle)
        return False
    opened.append((handle, mode))
    return True


def _close_again(handle: int, mode: int) -> None:
    """Give a folder its mode back, unless the run has given it another one meanwhile."""
    with contextlib.suppress(OSError):
        if stat.S_IMODE(os.fstat(handle).st_mode) == mode | stat.S_IRWXU:
            os.chmod(f"/proc/self/fd/{handle}", mode)
    os.close(handle)


def _unlinked(pids: Iterable[int], device: int) -> dict[int, int]:
    """Return the bytes of each such file, by its inode: many descriptors may hold one."""
    found: dict[int, int] = {}
    for pid in pids:
        folder = f"/proc/{pid}/fd"
        try:
            descriptors = os.listdir(folder)
        except OSError:
            continue
        for descriptor in descriptors:
            try:
                file = os.stat(f"{folder}/{descriptor}")
            except OSError:
                continue
            if stat.S_ISREG(file.st_mode) and not file.st_nlink and file.st_dev == device:
                found[file.st_ino] = file.st_blocks * BLOCK
    return found
