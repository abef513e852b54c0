"""What a sandbox is asked to do, and how it ended: plain values, no behaviour."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any


class Level(StrEnum):
    """How far a handler is shut in; `full` closes most (docs/isolation.md)."""

    FULL = "full"
    CONTAINER = "container"
    PROCESS = "process"

    @property
    def rank(self) -> int:
        """3 for full, 2 for container, 1 for process: a higher rank includes the lower ones' walls."""
        return {Level.FULL: 3, Level.CONTAINER: 2, Level.PROCESS: 1}[self]


class SandboxError(Exception):
    """The sandbox could not be built; its text says which step was refused. The handler never ran."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of one run; None is no limit of our own.

    The kernel enforces, per process: `cpu_seconds` and a second more (SIGXCPU, then SIGKILL 5 s
    later), `memory_bytes` (RLIMIT_DATA: allocations fail), `file_bytes` (size of one file),
    `open_files`; and per user: `processes` and one more, exact at `full` (its own user namespace)
    and with an identity of its own, and not set otherwise.
    The supervisor enforces: `wall_seconds`; `cpu_seconds`, `memory_bytes` and `processes` of the
    whole tree (`Sandboxed.usage`) and `workspace_bytes` (`workspace_bytes()`), all sampled, so a
    burst between samples passes. docs/limits.md tells users.
    """

    wall_seconds: float | None = None
    cpu_seconds: int | None = None
    memory_bytes: int | None = None
    file_bytes: int | None = None
    processes: int | None = None
    open_files: int | None = None
    workspace_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class HandlerIdentity:
    """The numeric user that handlers of one slot run as, when the worker was started as root."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """One process to start in a sandbox: a handler (`job`) or a program (`argv`), never both.

    `workspace` is a folder from `make_workspace`; the process sees it at the same path as the host
    does and starts in its `work` folder (or in `cwd`, relative to that).
    `job` is sent on descriptor 3 as one JSON line and is never in arguments, environment or files:
    {"handler": "module:function", "task", "tenant", "type", "attempt", "params", "secrets": {name:
    value}, "checkpoint", "python_path": [folders]?}. `env` is added to the clean environment of the
    process and travels by pipe too. `read_only_paths` are toolchains (each `bin` below them joins
    PATH), `extra_read_only` other readable paths, such as the folders of a `file:` repository.
    `network`: see docs/isolation.md; `egress_allow` are CIDRs that are otherwise refused, `egress_deny`
    hosts and ports that are refused in any case (at `full`).
    `marker` ("<task uuid>:<epoch>") becomes SWITCHYARD_RUN in the environment of the tree.
    """

    level: Level
    workspace: Path
    job: Mapping[str, Any] | None = None
    argv: tuple[str, ...] | None = None
    cwd: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    network: bool = False
    egress_allow: tuple[str, ...] = ()
    egress_deny: tuple[tuple[str, int], ...] = ()
    read_only_paths: tuple[Path, ...] = ()
    extra_read_only: tuple[Path, ...] = ()
    identity: HandlerIdentity | None = None
    marker: str = ""

    def __post_init__(self) -> None:
        """Refuse a launch that says nothing, or two things."""
        if (self.job is None) == (self.argv is None):
            raise ValueError("A launch needs either a job or an argv.")
        if not self.workspace.is_absolute():
            raise ValueError("A launch needs an absolute workspace path.")


@dataclass(frozen=True, slots=True)
class Exit:
    """How a sandboxed process ended.

    `code` is its exit code, or None when a signal (`signal`, "SIGKILL") ended it. `reason` is
    "exited", "signalled", "sandbox" (it never ran: `message` says which step was refused) or
    "abandoned" (the server that had forked it was killed, and it with it: no fault of the handler).
    `cpu_seconds` and `max_rss_bytes` (the largest process) cover all that was reaped; below `full`
    the latter is 0 when it is smaller than the supervisor itself (take the sampled sum then).
    """

    code: int | None
    signal: str | None
    cpu_seconds: float
    max_rss_bytes: int
    reason: str
    message: str = ""
