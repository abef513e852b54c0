"""Whose connection is it? A local TCP port to the role of the process that opened it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from tests.e2e.platforms import MARKS, POOLS, command_line

UNKNOWN = "?"
POOLER = "ops.pools.pooler"


def role_of(pids: Callable[[], Iterable[int]]) -> Callable[[int], str]:
    """Return a function from a client's port to ``web``, ``dispatcher``, ``worker``, … or ``?``.

    ``pids`` gives the processes that may own it. A supervisor bears its pool's command line; a
    pool's processes and the pooler of their connections all count as ``worker``.
    """

    def role(port: int) -> str:
        inode = _inode(port)
        if inode is None:
            return UNKNOWN
        with suppress(OSError, ValueError, AssertionError):
            for pid in pids():
                if _holds(pid, inode):
                    return _role(command_line(pid))
        return UNKNOWN

    return role


def _inode(port: int) -> str | None:
    """Return the socket's inode, from the kernel's table of IPv4 connections."""
    wanted = f"0100007F:{port:04X}"
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1] == wanted:
            return fields[9]
    return None


def _holds(pid: int, inode: str) -> bool:
    folder = f"/proc/{pid}/fd"
    with suppress(OSError):
        for name in os.listdir(folder):
            with suppress(OSError):
                if os.readlink(f"{folder}/{name}") == f"socket:[{inode}]":
                    return True
    return False


def _role(command: str) -> str:
    if POOLER in command:
        return "worker"
    for name, mark in MARKS.items():
        if mark in command:
            return "worker" if name in POOLS else name
    return UNKNOWN
