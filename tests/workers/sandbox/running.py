"""Reading what a sandbox says, with a deadline and never a bare sleep."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from workers.sandbox import Exit, Sandboxed


@dataclass
class Finished:
    """What a sandbox said before it ended."""

    exit: Exit
    stdout: str = ""
    stderr: str = ""
    messages: list[dict[str, Any]] = field(default_factory=list)


def read_all(sandboxed: Sandboxed, seconds: float = 20) -> tuple[bytes, bytes, bytes]:
    """Read the three streams to their end."""
    streams = {sandboxed.stdout: b"", sandboxed.stderr: b"", sandboxed.messages: b""}
    left, deadline = set(streams), time.monotonic() + seconds
    while left:
        ready, _, _ = select.select(left, [], [], max(0, deadline - time.monotonic()))
        if not ready:
            raise TimeoutError("The streams of the sandbox did not end.")
        for descriptor in ready:
            data = os.read(descriptor, 1 << 16)
            streams[descriptor] += data
            if not data:
                left.discard(descriptor)
    out, err, messages = streams.values()
    return out, err, messages


def read_until(descriptor: int, wanted: bytes, seconds: float = 20) -> bytes:
    """Read until `wanted` has come."""
    data, deadline = b"", time.monotonic() + seconds
    while wanted not in data:
        ready, _, _ = select.select([descriptor], [], [], max(0, deadline - time.monotonic()))
        if not ready:
            raise TimeoutError(f"{wanted!r} did not come, only {data!r}")
        more = os.read(descriptor, 1 << 16)
        if not more:
            raise EOFError(f"{wanted!r} did not come, only {data!r}")
        data += more
    return data


def until(condition: Callable[[], bool], seconds: float = 5) -> None:
    """Ask again and again until it is so; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
