"""Whose connection is it? Two local TCP ports to the role of the process that opened it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from tests.e2e.platforms import MARKS, POOLS, command_line

UNKNOWN = "?"
POOLER = "ops.pools.pooler"


def role_of(pids: Callable[[], Iterable[int]]) -> Callable[[int, int], str]:
    """Return a function from a connection's ports to ``web``, ``dispatcher``, ``worker``, … or ``?``.

    ``pids`` gives the processes that may own it. A supervisor bears its pool's command line; a
    pool's processes and the pooler of their connections all count as ``worker``.
    """

    def role(client: int, server: int) -> str:
        inode = _inode(client, server)
        if inode is None:
            return UNKNOWN
        with suppress(OSError, ValueError, AssertionError):
            for pid in pids():
                if _holds(pid, inode):
                    return _role(command_line(pid))
        return UNKNOWN

    return role


def _inode(client: int, server: int) -> str | None:
    """Return the inode of the client's socket, from the kernel's table of IPv4 connections.

    Connections to different servers may well have the same port at the client's end.
    """
    wanted = [f"0100007F:{port:04X}" for port in (client, server)]
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1:3] == wanted:
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
