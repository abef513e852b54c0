"""Look at the machine's processes through ``/proc``; on systems without it the answers are empty."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from workers.sandbox import tree

PROC = Path("/proc")


def children(parent: int) -> list[int]:
    """Return the ids of the direct children that have not ended.

    Asked once a second by everybody who watches, so it looks at those processes alone and not at the
    whole machine: that took 2 % of a processor where a few hundred processes run.
    """
    found = []
    for pid in tree.children(parent):
        with contextlib.suppress(OSError, IndexError):
            if _parent_and_state(pid)[1] != "Z":
                found.append(pid)
    return found


def descendants(root: int) -> list[int]:
    """Return the ids of all processes below ``root`` that still run (no zombies)."""
    table = _table()
    found: list[int] = []
    layer = {root}
    while layer:
        layer = {pid for pid, (parent, _) in table.items() if parent in layer}
        found.extend(sorted(pid for pid in layer if table[pid][1] != "Z"))
    return found


def working_in(directory: Path) -> list[int]:
    """Return the ids of processes whose working directory is ``directory``.

    PostgreSQL and Valkey both work in their data directory, so this finds the servers (and their
    children) that still hold it, without trusting any pid file.
    """
    try:
        wanted = directory.stat()
    except OSError:
        return []
    found = []
    for pid in _pids():
        # Compared by inode, because the server may see its folder through another mount.
        with contextlib.suppress(OSError):
            if os.path.samestat((PROC / str(pid) / "cwd").stat(), wanted):
                found.append(pid)
    return found


def _table() -> dict[int, tuple[int, str]]:
    """Return every process's parent and state letter."""
    table = {}
    for pid in _pids():
        with contextlib.suppress(OSError, IndexError, ValueError):
            table[pid] = _parent_and_state(pid)
    return table


def _parent_and_state(pid: int) -> tuple[int, str]:
    # The command may contain spaces and brackets; the fields begin behind the last one.
    text = (PROC / str(pid) / "stat").read_text(errors="replace")
    state, parent = text.rpartition(")")[2].split()[:2]
    return int(parent), state


def _pids() -> list[int]:
    try:
        return [int(name) for name in os.listdir(PROC) if name.isdigit()]
    except OSError:
        return []
