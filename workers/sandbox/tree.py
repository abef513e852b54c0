"""Finding and ending processes: the descendants of one, and those that lost their supervisor.

A subreaper inherits orphans, so whatever a handler starts, however often it forks away, stays a
descendant of its supervisor until both are gone. Read from /proc, which anybody may.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass

from workers.sandbox.inside import kernel

PAGE = os.sysconf("SC_PAGE_SIZE")
TICKS = os.sysconf("SC_CLK_TCK")
MARKER = "SWITCHYARD_RUN"
NAME_DIGITS = 11
"""With `run ` before them the longest name that Linux keeps."""


@dataclass(frozen=True, slots=True)
class Process:
    """One line of /proc: state is its letter (Z is dead and not yet buried).

    `cpu_seconds` are its own and those of all children that it has buried.
    """

    pid: int
    state: str
    parent: int
    group: int
    session: int
    rss_bytes: int
    cpu_seconds: float


@dataclass(frozen=True, slots=True)
class Usage:
    """What a tree of processes uses: those that live, their resident memory, the CPU time of all.

    ``pids`` are those that live; `processes` may leave out some that are the sandbox's own.
    """

    processes: int
    rss_bytes: int
    cpu_seconds: float
    pids: tuple[int, ...] = ()


def become_subreaper() -> None:
    """Inherit the orphans of all descendants of this process, instead of pid 1."""
    kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)


def is_subreaper() -> bool:
    """Whether this process inherits the orphans of its descendants."""
    answer = ctypes.c_int(0)
    kernel.prctl(kernel.PR_GET_CHILD_SUBREAPER, ctypes.byref(answer))
    return bool(answer.value)


def processes() -> dict[int, Process]:
    """Every process that /proc shows, by pid."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (process := _read(int(name))) is not None:
            found[process.pid] = process
    return found


def descendants(pid: int, among: dict[int, Process] | None = None) -> list[Process]:
    """The children, grandchildren, … of a process, without itself."""
    among = processes() if among is None else among
    children: dict[int, list[Process]] = {}
    for process in among.values():
        children.setdefault(process.parent, []).append(process)
    found: list[Process] = []
    waiting = [pid]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += [process.pid for process in below]
    return found


def children(pid: int) -> list[int]:
    """The direct children of a process; cheap where the kernel lists them (CONFIG_PROC_CHILDREN)."""
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                found += map(int, file.read().split())
    except (FileNotFoundError, ProcessLookupError):
        return [each.pid for each in processes().values() if each.parent == pid]
    return found


def tree_usage(pids: Iterable[int]) -> Usage:
    """What some processes and their descendants use; pages that they share count once for each.

    Looks at those processes alone, so that it costs the same on a busy machine. CPU time of a child
    whose parent refused to bury it (SIGCHLD ignored) is lost to us, as it is to the kernel's sums.
    """
    living: list[int] = []
    rss, cpu = 0, 0.0
    waiting = list(pids)
    while waiting:
        pid = waiting.pop()
        process = _read(pid)
        if process is None:
            continue
        cpu += process.cpu_seconds
        if process.state not in "ZX":
            living.append(pid)
            rss += process.rss_bytes
            waiting += children(pid)
    return Usage(len(living), rss, cpu, tuple(living))


def kill_tree(pid: int, spared: Iterable[int] = (), seconds: float = 5.0) -> list[int]:
    """SIGKILL a sandboxed process and all that came from it, until none is left.

    Orphans that the caller inherited as subreaper are found as its own children; `spared` are
    children that are none of this run's. Returns the pids that still live after `seconds`.
    The caller buries `pid` itself; orphans are buried here.
    """
    spared = set(spared)
    deadline = time.monotonic() + seconds
    empty = 0
    while True:
        left = _living(pid, spared)
        for each in left:
            _signal(each)
        # Twice: a list that changes while it is read may leave one out.
        empty = 0 if left else empty + 1
        if empty == 2 or time.monotonic() > deadline:
            _bury(pid, spared)
            return left
        if left:
            _bury(pid, spared)
            time.sleep(0.001)


def name_of(marker: str) -> str:
    """Return the name (`comm`) of the processes that guard a run, or are forked for it: `run 9c41d07…`.

    It ends as the id of the run's task does. What a handler execs has a name of its own.
    """
    return f"run {marker.partition(':')[0].replace('-', '')[-NAME_DIGITS:]}"


def of_run(marker: str) -> list[int]:
    """Return the living processes that belong to a run of a task, by name or environment.

    ``marker`` is the task's id, or `<id>:<epoch>`. A name says nothing of the epoch, an environment
    does; that of an undumpable process is not seen by others than root.
    """
    name, wanted = name_of(marker).encode(), f"{MARKER}={marker}".encode()
    found = []
    for pid, process in processes().items():
        if process.state in "ZX":
            continue
        with contextlib.suppress(OSError):
            if _text(pid, "comm").rstrip() == name or wanted in _text(pid, "environ"):
                found.append(pid)
    return found


def sweep_orphans(marker: str | None = None, spared: Iterable[int] = ()) -> list[int]:
    """SIGKILL processes whose environment says that they belong to run `marker` (or to any run).

    For the machine's sweep, when the supervisor itself is gone. It cannot see into processes that
    are undumpable or another user's, unless the caller is root: those are found only as children
    of a subreaper (make the pool manager one). `spared` are pids and their descendants to leave.
    Returns the pids that were signalled.
    """
    among = processes()
    kept = set(spared) | {os.getpid()}
    for pid in tuple(kept - {os.getpid()}):
        kept |= {process.pid for process in descendants(pid, among)}
    wanted = f"{MARKER}={marker or ''}".encode()
    swept = []
    for pid in among.keys() - kept:
        try:
            variables = _text(pid, "environ").split(b"\0")
        except OSError:
            continue
        if any(each == wanted if marker else each.startswith(wanted) for each in variables):
            _signal(pid)
            swept.append(pid)
    return swept


def _living(pid: int, spared: set[int]) -> list[int]:
    """What still lives of a run.

    A subreaper looks below itself: all that came from the run is there, orphans too. Anybody else
    looks at all processes, and finds of those that went astray what stayed in session or group.
    """
    if is_subreaper():
        return [each for each in _below(os.getpid(), spared) if _lives(each)]
    among = processes()
    own = {each.pid for each in descendants(pid, among)} | {pid}
    own |= {each.pid for each in among.values() if pid in (each.session, each.group)}
    return [each for each in own - spared if each in among and among[each].state not in "ZX"]


def _below(pid: int, spared: set[int]) -> list[int]:
    found: list[int] = []
    waiting = [pid]
    while waiting:
        below = [each for each in children(waiting.pop()) if each not in spared]
        found += below
        waiting += below
    return found


def _lives(pid: int) -> bool:
    process = _read(pid)
    return process is not None and process.state not in "ZX"


def _bury(pid: int, spared: set[int]) -> None:
    """Reap the dead orphans that became our children."""
    for child in children(os.getpid()):
        if child != pid and child not in spared and not _lives(child):
            with contextlib.suppress(ChildProcessError):
                os.waitpid(child, os.WNOHANG)


def _text(pid: int, what: str) -> bytes:
    with open(f"/proc/{pid}/{what}", "rb") as file:
        return file.read()


def _signal(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def _read(pid: int) -> Process | None:
    try:
        text = _text(pid, "stat").decode("ascii", "replace")
    except OSError:
        return None
    fields = text[text.rindex(")") + 2 :].split()
    return Process(
        pid=pid,
        state=fields[0],
        parent=int(fields[1]),
        group=int(fields[2]),
        session=int(fields[3]),
        rss_bytes=int(fields[21]) * PAGE,
        cpu_seconds=sum(map(int, fields[11:15])) / TICKS,
    )
