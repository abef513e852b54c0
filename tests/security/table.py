# ruff: noqa: E501 - the document has tables
"""Writes docs/isolation.md: what each isolation level closes, as measured on this machine.

    make isolation-table        (python -m tests.security.table)

Measured as an ordinary user and, where it is started as root, with a user of its own per handler.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.security.stage import OWN_USER
from workers.sandbox import Level, detect

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "isolation.md"
STAGE_SECONDS = 120
NEEDED_ABI = 6
"""The committed table was made where Landlock can refuse signals and abstract sockets."""

Column = tuple[Level, bool]
Results = Mapping[Column, Mapping[str, str]]
COLUMNS: tuple[Column, ...] = tuple((level, own) for own in (False, True) for level in Level)

TEXT = """\
# Isolation levels

A handler starts in a sandbox: exec'd, or below `full` forked by a clean server that was exec'd. A worker
tries which levels work on its machine (`SWITCHYARD_ISOLATION=auto`), reports the level it uses, and refuses
to start below `SWITCHYARD_ISOLATION_MINIMUM`.

| level | made of | where it works |
| --- | --- | --- |
| `full` | own user, pid, mount, net, ipc, uts and cgroup namespaces, a root of read-only binds, Landlock, seccomp, rlimits | Linux 5.13 and later with unprivileged user namespaces; not in a stock container |
| `container` | Landlock, seccomp, rlimits, undumpable, own session | Linux 5.13 and later, stock containers too |
| `process` | a process of its own, clean environment, undumpable, own session, rlimits | anywhere; for development |

Started as root, a worker drops to an ordinary user and gives each slot's handlers a user of their own
("own user" below): a wall that holds at every level.

## Measured

A hostile handler tried all of this against a supervisor, another run and the services of a platform.
An error's name means that it was refused with that error. `make isolation-table` measures again;
a test compares.

{table}

## Why one mechanism, and not bubblewrap

Level `full` is built by our own launcher (`workers/sandbox/inside`), also where bubblewrap is installed.

- *It costs the same.* 50 starts each, taken in turns on a busy machine with two cores, what the
  namespaces add to the same interpreter: ours 30 ms at the 25th percentile and 44 ms at the median,
  `bwrap --unshare-all` with the same binds 29 ms and 40 ms. Landlock and seccomp come on top of either.
- *It works in the same places.* Both need unprivileged user namespaces. Where Ubuntu 23.10 and later
  restrict them by AppArmor, bubblewrap is refused as well ("setting up uid map: Permission denied",
  containers/bubblewrap#632) unless somebody installs a profile for it, and a profile with `userns,` for
  the platform's own interpreter (or `kernel.apparmor_restrict_unprivileged_userns=0`) does the same for
  ours. Only a setuid bubblewrap works where user namespaces are off altogether; we would not rest
  tenants' isolation on that. The worker then reports `container`, and why `full` was refused.
- *It could not be all.* Landlock, seccomp, the hand-out of the egress listener, orders and the report of
  the end need a program of ours inside in any case: two mechanisms would mean two sets of walls to attack.

## What stays open, and what to do about it

- **One kernel.** Every level shares it. Tenants who would attack it need machines of their own.
- **Below `full`** a daemon that left its session dies with its run's keeper or supervisor, whichever is
  left: a keeper whose supervisor was killed ends its run's tree. Only when both are killed at the same
  moment do a handler's own children outlive them, until the pool manager, which inherits orphans as a
  subreaper, or the machine's sweep by SWITCHYARD_RUN in their environment ends them.
- A server that is killed loses the runs that it has forked, where a pool manager ends orphans (as under
  `switchyard up`): their supervisors give them up, and they count as losses, not failures.
- **At `full`** a clean server forks what builds the walls, and within them every handler is exec'd, in an
  interpreter of its own; `shell.command`, which is ours, becomes its program there without one.
- **Below `full`** handlers are forked by a server of their package instead of exec'd (`inside.server`),
  which takes about a quarter of the processor time. Either server is exec'd by itself, clean, and knows no
  run: plan, params and secrets go from the supervisor to the run's own process. What handlers of one package
  share is what importing them left in memory, and so the layout of it (ASLR) and the seed of Python's hashes.
- **`process`** keeps no file, socket or process of the same user from a handler.
- **Memory.** `memory_mb` is RLIMIT_DATA for each process (what it may write to; V8, Go and Java reserve
  far more address space than they use), and a sampled sum over the tree. Shared mappings count only
  in the sum. Files that are nothing but memory (memfd), which neither sees, do not exist at `full` and
  `container`. System V's shared memory and message queues are refused at `container`, because they would
  outlive the run (PostgreSQL does not start there), and end with it at `full`; segments that no process
  maps are not counted. Exact limits for a whole tree need a cgroup: run workers in containers with one.
- **Processes.** Refused by the kernel per user at `full` and with an own user; everywhere the supervisor
  counts the tree and ends a run that has more than it may.
- **Disk.** One file is limited exactly (RLIMIT_FSIZE), the workspace by sampling; give workspaces a file
  system of their own where a burst matters.
- **Network.** Off: at `full` only the run's own loopback, at `container` no internet sockets at all.
  Granted: at `full` only through the supervisor's proxy, which refuses private, loopback, link-local,
  shared, reserved and metadata addresses, this machine's own, and the platform's PostgreSQL, Redis
  and broker wherever they are (by HTTP_PROXY and friends; programs that ignore these have
  no network, and names are resolved by the proxy alone); at `container` and `process` the network is
  simply open, so those levels need a firewall beside them. `http.request` checks its addresses itself there.
- **Unix sockets.** Allowed at `full`, where none of the machine's can be seen; refused at `container`
  (socketpair works), which breaks programs that talk to themselves that way.
- **/proc.** `container` shows a program none of it, not even itself, because Landlock cannot tell
  processes apart there.
- **What may be executed.** Anything, also what the run wrote itself: a workspace is there to build in.
- **What is seen.** /usr, the loader and certificate files of /etc, the interpreter, our own handler
  code, installed Python packages, and `SWITCHYARD_SANDBOX_PATHS`: keep secrets out of those.
"""


def measure(column: Column) -> dict[str, str]:
    """Run the stage for one level, in a process of its own because it gives rights up."""
    level, own_user = column
    words = [
        sys.executable,
        "-m",
        "tests.security.stage",
        level.value,
        *([OWN_USER] if own_user else []),
    ]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'platform'}"}
    done = subprocess.run(
        words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=STAGE_SECONDS
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return dict(json.loads(done.stdout))


def why_not(column: Column) -> str | None:
    """Why a column cannot be measured here, or None."""
    level, own_user = column
    found = detect()
    if not found.available[level]:
        return f"level {level} does not work here: {found.reasons[level]}"
    if own_user and os.geteuid() != 0:
        return "needs to be started as root"
    if found.landlock_abi < NEEDED_ABI and level is not Level.PROCESS:
        return f"needs Landlock ABI {NEEDED_ABI} (Linux 6.12)"
    return None


def render(results: Results) -> str:
    """The whole document."""
    names = [f"{level}, own user" if own else str(level) for level, own in COLUMNS]
    lines = [f"| tried | {' | '.join(names)} |", "| --- |" + " --- |" * len(names)]
    for probe in next(iter(results.values())):
        cells = [_cell(results[column][probe]) for column in COLUMNS]
        lines.append(f"| {probe} | {' | '.join(cells)} |")
    return TEXT.format(table="\n".join(lines))


def committed() -> dict[Column, dict[str, str]]:
    """The results that the committed document tells."""
    rows = [
        line.strip("| \n").split(" | ")
        for line in DOCUMENT.read_text().splitlines()
        if line.startswith("| ")
    ]
    start = next(index for index, row in enumerate(rows) if row[0] == "tried") + 2
    return {
        column: {row[0]: row[1 + index].strip("*") for row in rows[start:]}
        for index, column in enumerate(COLUMNS)
    }


def _cell(outcome: str) -> str:
    opened = outcome in ("open", "lives", "EINVAL") or outcome == "200 of 200"
    return f"**{outcome}**" if opened else outcome


if __name__ == "__main__":
    for each in COLUMNS:
        if reason := why_not(each):
            sys.exit(f"{each[0]} cannot be measured: {reason}")
    DOCUMENT.parent.mkdir(exist_ok=True)
    DOCUMENT.write_text(render({each: measure(each) for each in COLUMNS}))
