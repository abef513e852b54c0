"""Who used the processor: CPU time of a platform's processes between two looks, by kind.

Read from ``/proc/*/stat``. The time of processes that have ended meanwhile is in the ``cutime`` and
``cstime`` of who buried them: for a worker's main process those are its supervisors with their
handlers, for PostgreSQL's the backends of closed connections. Nothing is sampled, so nothing that is
too short is missed.
"""

from __future__ import annotations

import os
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

TICKS = os.sysconf("SC_CLK_TCK")
# How a process is recognised by its command line; the first that fits.
MARKS = (
    ("manage.py up", "up"),
    ("ops.up.serve", "web"),
    ("manage.py dispatch", "dispatcher"),
    ("manage.py pools", "pool manager"),
    ("ops.pools.pooler", "pooler"),
    ("-m workers beat", "beat"),
    ("-Q system", "system worker"),
    ("-m workers worker", "worker main"),
    ("/bin/postgres -D", "postgres"),
    ("valkey-server", "valkey"),
)
# What the buried children of a kind were; of others they were more of the same.
BURIED = {
    "worker main": "supervisors and handlers",
    "postgres": "postgres: closed connections",
    "pool manager": "ended workers",
}
APPLICATION = "switchyard-"


@dataclass(frozen=True, slots=True)
class Seen:
    """One process at one moment: CPU seconds of its own, and of the children that it has buried."""

    parent: int
    kind: str
    own: float
    buried: float


Look = dict[int, Seen]


def look(root: int, database: psycopg.Connection[Any]) -> Look:
    """Look at ``root`` and all its descendants; the database tells whom its backends serve."""
    rows = database.execute("SELECT pid, application_name FROM pg_stat_activity").fetchall()
    served = {pid: name.removeprefix(APPLICATION) for pid, name in rows}
    table = _table()
    children: dict[int, list[int]] = {}
    for pid, (parent, _, _) in table.items():
        children.setdefault(parent, []).append(pid)
    found: Look = {}
    waiting = [(root, "")]
    while waiting:
        pid, above = waiting.pop()
        parent, own, buried = table.get(pid, (0, 0.0, 0.0))
        kind = _kind(pid, above, served)
        found[pid] = Seen(parent, kind, own, buried)
        waiting += [(child, kind) for child in children.get(pid, ())]
    return found


def used(before: Look, after: Look) -> Counter[str]:
    """CPU seconds by kind between two looks."""
    spent: Counter[str] = Counter()
    for pid, now in after.items():
        then = before.get(pid, Seen(0, "", 0.0, 0.0))
        spent[now.kind] += now.own - then.own  # type: ignore[assignment]
        spent[BURIED.get(now.kind, now.kind)] += now.buried - then.buried  # type: ignore[assignment]
    for pid, then in before.items():
        heir = after.get(then.parent)
        if pid not in after and heir is not None:
            # All of its life is in what was buried now; until the first look it was counted before.
            spent[BURIED.get(heir.kind, heir.kind)] -= then.own + then.buried  # type: ignore[assignment]
    return spent


def cpu_of(pids: list[int]) -> float:
    """CPU seconds of processes and of all children that they have buried."""
    table = _table()
    return sum(sum(table[pid][1:]) for pid in pids if pid in table)


def _kind(pid: int, above: str, served: dict[int, str]) -> str:
    if above in ("worker main", "supervisors and handlers"):
        return "supervisors and handlers"
    if above == "system worker":
        return above
    if above.startswith("postgres"):
        return f"postgres: {served[pid]}" if served.get(pid) else "postgres: its own processes"
    line = _command(pid)
    for mark, kind in MARKS:
        if mark in line:
            return kind
    return f"other below {above}"


def _table() -> dict[int, tuple[int, float, float]]:
    """Each process's parent, own CPU seconds and those of its buried children."""
    table = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError, ValueError, IndexError):
                text = Path(f"/proc/{name}/stat").read_text(errors="replace")
                fields = text.rpartition(")")[2].split()
                user, system, buried_user, buried_system = map(int, fields[11:15])
                own, buried = (user + system) / TICKS, (buried_user + buried_system) / TICKS
                table[int(name)] = (int(fields[1]), own, buried)
    return table


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""
