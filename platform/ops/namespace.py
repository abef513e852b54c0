"""Let unprivileged accounts reach what root started from, without changing a single permission.

Root often works below folders that only root may enter: its home (0700), or a temporary clone. The
accounts that we drop to could then neither execute the interpreter nor read the checkout. Opening
those folders to the world is not ours to do. So `up` builds one private mount namespace, which
only its own children enter: over each closed folder lies an empty one that can be entered, and in
it, at the same paths, are bound exactly the folders that are needed. Everything else below the
closed folder is simply not there, for those processes even less visible than before.

The namespace exists as long as somebody is in it or holds its descriptor; nothing is to be undone.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from ops.accounts import Account

_CLONE_NEWNS = 0x00020000
_MS_BIND = 0x1000
_MS_REC = 0x4000
_MS_SLAVE = 1 << 19
_MS_REMOUNT = 0x20
_MS_RDONLY = 0x1
_MS_NOSUID = 0x2
_MS_NODEV = 0x4
# A folder in which every level is closed would need a mount per folder: beyond this many rounds
# it is the files themselves that are unreadable, and no mount can help.
ROUNDS = 4


class Unreachable(Exception):
    """An account cannot reach what it must; the message says what to do."""


class Namespace:
    """A mount namespace that children enter before they drop their privileges."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def enter(self) -> None:
        """Move this process (a child before its exec, still root) into the namespace."""
        _call("setns", self.descriptor, _CLONE_NEWNS)


def entering(
    account: Account, namespace: Namespace | None, become: Callable[[], None] | None = None
) -> Callable[[], None] | None:
    """Return what a child does before its exec: enter the namespace, then change the user.

    None where nothing is to be done. ``become`` replaces the account's plain way of dropping.
    """
    if not account.switch:
        return None

    def enter() -> None:
        if namespace is not None:
            namespace.enter()
        (become or account.become)()

    return enter


def reveal(needs: dict[Account, list[Path]]) -> Namespace | None:
    """Return the namespace in which each account reaches its folders; None when it does already.

    Raises:
        Unreachable: when a folder stays out of reach, or namespaces are not permitted here.
    """
    blocked = _blocked(needs)
    if not blocked:
        return None
    if sys.platform != "linux":
        raise Unreachable(_advice(blocked))
    read, write = os.pipe()
    release_read, release_write = os.pipe()
    builder = os.fork()
    if builder == 0:
        os.close(read)
        os.close(release_write)
        _build(needs, write, release_read)
    os.close(write)
    os.close(release_read)
    with os.fdopen(read, "rb") as answers:
        told = answers.readline().decode("utf-8", "replace").strip()
    try:
        if told != "done":
            raise Unreachable(f"{_advice(blocked)} ({told or 'no answer'})")
        return Namespace(os.open(f"/proc/{builder}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC))
    finally:
        os.close(release_write)
        with suppress(ChildProcessError):
            os.waitpid(builder, 0)


def _advice(blocked: dict[str, Path]) -> str:
    name, path = next(iter(blocked.items()))
    return (
        f"Started as root, Switchyard runs its servers as the account {name}, which cannot read "
        f"{path}: make the checkout anew with `umask 022` in a folder that everybody may enter "
        "(such as /opt), or start Switchyard as an ordinary user."
    )


def _build(needs: dict[Account, list[Path]], answer: int, release: int) -> None:
    """In a child of its own: make the namespace, say "done", wait until it has been taken."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    try:
        _call("unshare", _CLONE_NEWNS)
        _mount("none", Path("/"), None, _MS_REC | _MS_SLAVE, None)
        wanted = list(dict.fromkeys(path for paths in needs.values() for path in paths))
        for _ in range(ROUNDS):
            blocked = _blocked(needs)
            if not blocked:
                break
            for folder in dict.fromkeys(blocked.values()):
                _open_up(folder, wanted)
        left = _blocked(needs)
        text = "done" if not left else f"{next(iter(left.values()))} stays closed"
    except OSError as error:
        text = str(error)
    os.write(answer, text.encode() + b"\n")
    os.close(answer)
    os.read(release, 1)
    os._exit(0)


def _open_up(closed: Path, wanted: Iterable[Path]) -> None:
    """Lay an empty folder over ``closed`` and put what is wanted below it back in its place."""
    links: dict[Path, str] = {}
    folders: dict[Path, int] = {}
    files: dict[Path, int] = {}
    for path in wanted:
        found, passed = _resolve(path)
        links |= {link: target for link, target in passed.items() if _below(link, closed)}
        if found == closed:
            # The closed folder is itself wanted: put all that is in it back.
            for entry in os.scandir(closed):
                place = Path(entry.path)
                if entry.is_symlink():
                    links[place] = os.readlink(place)
                elif entry.is_dir():
                    folders[place] = os.open(place, os.O_PATH | os.O_CLOEXEC)
                elif entry.is_file():
                    files[place] = os.open(place, os.O_PATH | os.O_CLOEXEC)
        elif _below(found, closed) and found not in folders:
            folders[found] = os.open(found, os.O_PATH | os.O_CLOEXEC)
    _mount("tmpfs", closed, "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=755,size=1m")
    # Shorter paths first: what lies inside an already returned folder is there with it.
    returned: list[Path] = []
    for place in sorted(folders, key=lambda path: len(path.parts)):
        if not any(_below(place, other) for other in returned):
            place.mkdir(parents=True, exist_ok=True)
            _mount(f"/proc/self/fd/{folders[place]}", place, None, _MS_BIND | _MS_REC, None)
            returned.append(place)
        os.close(folders[place])
    for place, descriptor in files.items():
        place.touch()
        _mount(f"/proc/self/fd/{descriptor}", place, None, _MS_BIND, None)
        os.close(descriptor)
    for place, target in links.items():
        if not any(_below(place, other) for other in returned):
            place.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError):
                place.symlink_to(target)
    _mount("none", closed, None, _MS_REMOUNT | _MS_RDONLY | _MS_NOSUID | _MS_NODEV, "mode=755")


def _resolve(path: Path) -> tuple[Path, dict[Path, str]]:
    """Follow a path link by link: return where it ends, and each link on the way with its target."""
    passed: dict[Path, str] = {}
    todo = list(path.parts[1:])
    here = Path("/")
    while todo and len(passed) < 40:
        step = here / todo.pop(0)
        if step.is_symlink():
            target = os.readlink(step)
            passed[step] = target
            rest = Path(os.path.normpath(here / target))
            todo = [*rest.parts[1:], *todo]
            here = Path("/")
        else:
            here = step
    return here, passed


def _below(path: Path, folder: Path) -> bool:
    return path != folder and path.is_relative_to(folder)


def _blocked(needs: dict[Account, list[Path]]) -> dict[str, Path]:
    """Return, by account name, the first folder on the way to a need that it cannot enter."""
    found: dict[str, Path] = {}
    for account, paths in needs.items():
        ways: dict[Path, int] = {}
        for path in paths:
            final, passed = _resolve(path)
            for place in (final, *passed):
                for folder in reversed(place.parents):
                    ways.setdefault(folder, os.X_OK)
            ways[final] = os.R_OK | (os.X_OK if final.is_dir() else 0)
        closed = _first_closed(account, ways)
        if closed is not None:
            found[account.name] = closed
    return found


def _first_closed(account: Account, ways: dict[Path, int]) -> Path | None:
    """Ask the kernel, as the account: only it knows modes, groups and access lists together."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(read)
            account.become()
            closed = next((str(path) for path, how in ways.items() if not os.access(path, how)), "")
            os.write(write, json.dumps(closed).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as answers:
        text = answers.read()
    os.waitpid(child, 0)
    if not text:
        raise Unreachable(
            f"Started as root, Switchyard could not switch to the account {account.name}: "
            "start it as an ordinary user."
        )
    closed = json.loads(text)
    return Path(closed) if closed else None


def _mount(source: str, target: Path, kind: str | None, flags: int, options: str | None) -> None:
    _call(
        "mount",
        os.fsencode(source),
        os.fsencode(target),
        kind.encode() if kind else None,
        ctypes.c_ulong(flags),
        options.encode() if options else None,
    )


def _call(name: str, *arguments: object) -> None:
    """Call libc; a failure becomes OSError with the call's name."""
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
