"""Measuring what a run uses, and saying which of its limits it has passed."""

from __future__ import annotations

import os
import time
from pathlib import Path

from workers.sandbox import (
    Exit,
    HandlerIdentity,
    Limits,
    Sandboxed,
    WorkspaceError,
    unlinked_bytes,
    workspace_bytes,
)

SAMPLE_SECONDS = 0.5
WORKSPACE_SECONDS = 1.0
WORKSPACE_SHARE, WORKSPACE_SHARE_AT_MOST = 0.02, 0.2
"""Of the time: measuring a workspace with many files may take no more; at most while the disk fills."""

FULL_BELOW_BYTES = 1024 * 1024
NEARLY = 0.9
MIB = 1024 * 1024
VMSTAT = Path("/proc/vmstat")


class Meter:
    """Looks at one sandbox's processes and workspace from time to time.

    ``peak_rss_bytes`` is the largest sum over the tree that was seen, ``cpu_seconds`` the newest.
    """

    def __init__(
        self,
        sandboxed: Sandboxed,
        limits: Limits,
        workspace: Path,
        identity: HandlerIdentity | None,
    ) -> None:
        self._sandboxed = sandboxed
        self._limits = limits
        self._workspace = workspace
        self._identity = identity
        self._oom_kills = oom_kills()
        now = time.monotonic()
        self.next = now + SAMPLE_SECONDS
        self._next_folder = self._soonest_folder = now + WORKSPACE_SECONDS
        self._pids: tuple[int, ...] = ()
        self._left = self._free = 0
        self.peak_rss_bytes = 0
        self.cpu_seconds = 0.0

    def passed(self, now: float) -> tuple[str, str] | None:
        """Measure if it is time; the name of a limit that was passed and by how much, or None."""
        if now < self.next:
            return None
        self.next = now + SAMPLE_SECONDS
        return self._processes() or self._folder(now)

    def hints(self, end: Exit) -> frozenset[str]:
        """What may explain a failure that does not explain itself; see :mod:`verdict`.

        ``cpu`` and ``memory``: the limit was reached. ``oom``: something was killed for want of
        memory meanwhile. ``disk``: nothing more fits on the file system of the workspace.
        """
        if end.code == 0:
            return frozenset()
        limits = self._limits
        cpu, rss = max(self.cpu_seconds, end.cpu_seconds), max(self.peak_rss_bytes, end.max_rss_bytes)
        found = {
            "cpu": limits.cpu_seconds is not None and cpu >= limits.cpu_seconds,
            "memory": limits.memory_bytes is not None and rss >= limits.memory_bytes * NEARLY,
            "oom": oom_kills() > self._oom_kills,
            "disk": self._disk_is_full(),
        }
        return frozenset(name for name, so in found.items() if so)

    def _disk_is_full(self) -> bool:
        try:
            found = os.statvfs(self._workspace)
        except OSError:
            return False
        no_more_files = found.f_files > 0 and found.f_favail == 0
        return no_more_files or found.f_bavail * found.f_frsize < FULL_BELOW_BYTES

    def _processes(self) -> tuple[str, str] | None:
        used, limits = self._sandboxed.usage(), self._limits
        self.peak_rss_bytes = max(self.peak_rss_bytes, used.rss_bytes)
        self.cpu_seconds = max(self.cpu_seconds, used.cpu_seconds)
        self._pids = used.pids
        if limits.memory_bytes is not None and used.rss_bytes > limits.memory_bytes:
            return "memory", _mib(used.rss_bytes, limits.memory_bytes)
        if limits.cpu_seconds is not None and used.cpu_seconds >= limits.cpu_seconds:
            return "cpu", f"{used.cpu_seconds:.1f} s of {limits.cpu_seconds} s"
        if limits.processes is not None and used.processes > limits.processes:
            return "processes", f"{used.processes} of {limits.processes}"
        return None

    def _folder(self, now: float) -> tuple[str, str] | None:
        limit = self._limits.workspace_bytes
        if limit is None or not self._is_time_for_folder(now, limit):
            return None
        try:
            used = workspace_bytes(self._workspace, self._identity, enough=limit)
            used += unlinked_bytes(self._pids, self._workspace, self._identity)
        except WorkspaceError as error:
            return "workspace", str(error)
        except OSError:  # it is gone: the run removed it
            used = 0
        done = time.monotonic()
        took = done - now
        self._next_folder = now + max(WORKSPACE_SECONDS, took / WORKSPACE_SHARE)
        self._soonest_folder = now + max(WORKSPACE_SECONDS, took / WORKSPACE_SHARE_AT_MOST)
        self._left, self._free = limit - used, self._free_bytes()
        if used > limit:
            return "workspace", _mib(used, limit)
        return None

    def _is_time_for_folder(self, now: float, limit: int) -> bool:
        """Whether it is time to measure, or the disk has lost what this run alone may still take."""
        if now < self._soonest_folder:
            return False
        return now >= self._next_folder or self._free - self._free_bytes() > self._left

    def _free_bytes(self) -> int:
        try:
            found = os.statvfs(self._workspace)
        except OSError:
            return 0
        return found.f_bavail * found.f_frsize


def oom_kills() -> int:
    """How many processes the kernel has killed for want of memory since it started; 0 if unknown."""
    try:
        with open(VMSTAT, "rb") as file:
            counters = file.read()
    except OSError:
        return 0
    _before, found, behind = counters.partition(b"\noom_kill ")
    return int(behind.split(b"\n", 1)[0]) if found else 0


def _mib(used: int, limit: int) -> str:
    return f"{used // MIB} MiB of {limit // MIB} MiB"
