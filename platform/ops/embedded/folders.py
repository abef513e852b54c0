"""The folders of the embedded servers, and how leftovers of a crash are cleared away."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ops.accounts import Account
from ops.supervision.processes import working_in

# sun_path holds 108 bytes with its final NUL. The longest name is PostgreSQL's lock beside its
# socket: ".s.PGSQL.65535.lock".
SOCKET_PATH_MAX = 107
LONGEST_SOCKET_NAME = len("/.s.PGSQL.65535.lock")
# Where a folder with a short path is made, and what names it beside the preferred one.
TEMPORARY, PREFIX, NOTE = Path("/tmp"), "switchyard-", ".path"  # noqa: S108 - mkdtemp's own
# How long a server of a killed `up` may take for its own orderly end before it is killed.
LEFTOVER_GRACE = 15.0


@dataclass(frozen=True)
class Home:
    """Where one embedded server lives.

    ``data`` exists and belongs to the server's account alone; ``sockets`` is short enough for a
    Unix socket and can be entered by everybody (the sockets ask for a password); ``log`` and
    ``ports`` belong to whoever runs `up`. ``enter`` is the supervisor's way into the account.
    """

    data: Path
    sockets: Path
    log: Path
    ports: Path
    account: Account
    enter: Callable[[], None] | None = None


def make_folder(path: Path, account: Account, mode: int) -> Path:
    """Make one folder with exactly this mode for the account; an existing one is left alone."""
    with contextlib.suppress(FileExistsError):
        path.mkdir()
        path.chmod(mode)
        account.own(path)
    return path


def socket_folder(preferred: Path, account: Account) -> Path:
    """Return a folder for sockets: the preferred one, or a temporary one where its path is too long."""
    if len(os.fsencode(preferred)) + LONGEST_SOCKET_NAME <= SOCKET_PATH_MAX:
        return make_folder(preferred, account, 0o711)
    # The note keeps the temporary folder findable after a crash, so that it is used again.
    note = preferred.with_name(preferred.name + NOTE)
    with contextlib.suppress(OSError):
        known = Path(note.read_text())
        if known.is_dir() and not known.is_symlink() and known.stat().st_uid == account.uid:
            return known
    made = Path(tempfile.mkdtemp(prefix=PREFIX, dir=TEMPORARY))
    made.chmod(0o711)
    account.own(made)
    note.write_text(str(made))
    return made


def remove_socket_folder(sockets: Path) -> None:
    """Remove the sockets and their folder."""
    empty_folder(sockets)
    with contextlib.suppress(OSError):
        sockets.rmdir()


def remove_socket_folder_of_another(preferred: Path) -> None:
    """Remove what :func:`socket_folder` made for a process that was killed: both folders, and the note.

    We may be root, and that process was not: no more is removed than it could have removed itself.
    """
    remove_socket_folder(preferred)
    note = preferred.with_name(preferred.name + NOTE)
    with contextlib.suppress(OSError, ValueError):
        noted = Path(note.read_text())
        ours = noted.parent == TEMPORARY and noted.name.startswith(PREFIX)
        if ours and empty_folder(noted, owner=note.stat(follow_symlinks=False).st_uid):
            noted.rmdir()
    note.unlink(missing_ok=True)


def empty_folder(folder: Path, *, owner: int | None = None) -> bool:
    """Remove the files of a folder, but for its folders; return whether it was one (of this owner).

    No link is followed to another folder.
    """
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if owner is not None and os.fstat(descriptor).st_uid != owner:
                return False
            for name in os.listdir(descriptor):
                with contextlib.suppress(OSError):
                    os.unlink(name, dir_fd=descriptor)
            return True
        finally:
            os.close(descriptor)
    return False


def end_leftovers(data: Path) -> None:
    """Wait until no process of an earlier start works in ``data``; kill what does not go by itself.

    A server whose supervisor was killed is ending already (its orphan signal), which this lets it
    finish. The caller holds the state folder's lock, so these cannot be anybody's wanted servers.
    """
    deadline = time.monotonic() + LEFTOVER_GRACE
    while left := working_in(data):
        number = signal.SIGKILL if time.monotonic() > deadline else None
        for pid in left if number else []:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline + 5:
            return
        time.sleep(0.02)
