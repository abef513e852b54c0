"""What one run may use: the task's limits over the type's, over these defaults. Plain rules."""

from __future__ import annotations

from typing import Any

from workers.sandbox import Limits

MIB = 1024 * 1024
DEFAULT_OUTPUT_MB = 20
DEFAULT_PROCESSES = 512
DEFAULT_OPEN_FILES = 1024
DEFAULT_FILE_MB = 4096
DEFAULT_WORKSPACE_MB = 8192


def effective_limits(asked: dict[str, Any], time_limit: float | None) -> Limits:
    """Return the sandbox's limits; ``asked`` is the ``limits`` of the task over its type's."""
    memory = asked.get("memory_mb")
    cpu = asked.get("cpu_seconds")
    return Limits(
        wall_seconds=time_limit,
        cpu_seconds=None if cpu is None else max(1, round(cpu)),
        memory_bytes=None if memory is None else int(memory * MIB),
        file_bytes=int((asked.get("file_mb") or DEFAULT_FILE_MB) * MIB),
        processes=asked.get("processes") or DEFAULT_PROCESSES,
        open_files=asked.get("open_files") or DEFAULT_OPEN_FILES,
        workspace_bytes=int((asked.get("workspace_mb") or DEFAULT_WORKSPACE_MB) * MIB),
    )


def output_cap(asked: dict[str, Any]) -> int:
    """Return how many bytes of output are kept."""
    return int((asked.get("output_mb") or DEFAULT_OUTPUT_MB) * MIB)
