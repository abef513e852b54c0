"""Measuring what a run uses, and saying which of its limits it has passed."""

from __future__ import annotations

import os
import time
from pathlib import Path

from workers.sandbox import Exit, HandlerIdentity, Limits, Sandboxed, workspace_bytes

SAMPLE_SECONDS = 0.5
WORKSPACE_SECONDS = 1.0
WORKSPACE_SHARE = 0.02
"""Of the time: measuring a workspace with many files may take no more."""

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
        self._next_workspace = now + WORKSPACE_SECONDS
        self.peak_rss_bytes = 0
        self.cpu_seconds = 0.0

    def passed(self, now: float) -> tuple[str, str] | None:
        """Measure if it is time; the name of a limit that was passed and by how much, or None."""
        if now < self.next:
            return None
        self.next = now + SAMPLE_SECONDS
        return self._processes() or (self._folder(now) if now >= self._next_workspace else None)

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
        if limits.memory_bytes is not None and used.rss_bytes > limits.memory_bytes:
            return "memory", _mib(used.rss_bytes, limits.memory_bytes)
        if limits.cpu_seconds is not None and used.cpu_seconds >= limits.cpu_seconds:
            return "cpu", f"{used.cpu_seconds:.1f} s of {limits.cpu_seconds} s"
        if limits.processes is not None and used.processes > limits.processes:
            return "processes", f"{used.processes} of {limits.processes}"
        return None

    def _folder(self, now: float) -> tuple[str, str] | None:
        if self._limits.workspace_bytes is None:
            return None
        used = workspace_bytes(self._workspace, self._identity)
        took = time.monotonic() - now
        self._next_workspace = now + max(WORKSPACE_SECONDS, took / WORKSPACE_SHARE)
        if used > self._limits.workspace_bytes:
            return "workspace", _mib(used, self._limits.workspace_bytes)
        return None


def oom_kills() -> int:
    """How many processes the kernel has killed for want of memory since it started; 0 if unknown."""
    try:
        for line in VMSTAT.read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    except (OSError, ValueError):
        return 0
    return 0


def _mib(used: int, limit: int) -> str:
    return f"{used // MIB} MiB of {limit // MIB} MiB"
