"""``make test``: the whole suite in four stages, the fast tests first.

    python -m tests.stages [arguments for pytest]

1. ``quick``: everything that needs no more than the database and the broker, in parallel by file.
2. ``servers``: what starts web servers and asks them in real time. They answer within their second
   only where no platform starts beside them.
3. ``platforms``: what starts whole platforms, by file as well.
4. ``alone``: promises about seconds, which are measured when nothing else runs, and the browser's,
   which come last in a process of their own: Playwright leaves an event loop running in the main
   thread, and Django refuses its database there from then on.

Every stage runs, whatever the earlier ones brought; the closing lines tell of each. The exit code is
0 only when all passed. Arguments that name a file or a folder are run as one ordinary pytest.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SERVERS = ("live",)
PLATFORMS = ("chaos", "e2e", "ops", "security")
ALONE = ("pace", "browser")
# Every worker has two of the 16 databases of the test session's Valkey, and its controller too.
MOST_WORKERS = 7
# Each stage ends with a list of what took longest.
SLOWEST = ("--durations=12", "--durations-min=5")
NOTHING_SELECTED = 5
INTERRUPTED = 2


def stages() -> dict[str, list[str]]:
    """Return pytest's arguments for each stage."""
    servers, platforms, alone = (
        [f"tests/{folder}" for folder in each] for each in (SERVERS, PLATFORMS, ALONE)
    )
    return {
        "quick": [
            *_parallel(),
            *(f"--ignore={path}" for path in (*servers, *platforms, *alone)),
        ],
        "servers": [*_parallel(), *servers],
        # In this order, long files first: nobody waits at the end for the one that came last.
        "platforms": [*_parallel(beyond=2), "--no-loadscope-reorder", *platforms],
        "alone": [*SLOWEST, *alone],
    }


def _parallel(beyond: int = 1) -> list[str]:
    """Return the arguments for a few workers ``beyond`` the processors: tests also wait, most of all for
    platforms that start, stop or recover.

    None of them has the browser's plugin: its tests run in the last stage.
    """
    workers = min(MOST_WORKERS, (os.cpu_count() or 1) + beyond)
    return [f"--numprocesses={workers}", "--dist=loadfile", "-p", "no:playwright", *SLOWEST]


def run(arguments: Sequence[str]) -> tuple[int, str]:
    """Run pytest and show what it says; return its exit code and its last line."""
    # Unbuffered, so that its dots are seen when they are made.
    command = [sys.executable, "-u", "-m", "pytest", *arguments]
    # Where nothing compiled may be kept, each process of each stage rewrites all assertions anew.
    unwanted = "PYTHONDONTWRITEBYTECODE"
    environment = {name: value for name, value in os.environ.items() if name != unwanted}
    if sys.stdout.isatty():
        command.append("--color=yes")
    said = b""
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        while piece := os.read(process.stdout.fileno(), 1 << 16):
            sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
            said = (said + piece)[-4096:]
    lines = said.decode(errors="replace").strip().splitlines()
    return process.returncode, lines[-1].strip(" =") if lines else ""


def main(arguments: Sequence[str]) -> int:
    """Run the stages; return the exit code for the whole."""
    # What `-k` and `-m` take may look like anything, but hardly like a path that exists.
    if any((ROOT / each.partition("::")[0]).exists() for each in arguments):
        return run(arguments)[0]
    began = time.monotonic()
    codes: dict[str, int] = {}
    closing = []
    for stage, selection in stages().items():
        print(f"test: {stage}", flush=True)
        codes[stage], said = run([*selection, *arguments])
        closing.append(f"test: {stage:<9} {said}")
        if codes[stage] == INTERRUPTED:
            break
    print("\n" + "\n".join(closing))
    failed = [stage for stage, code in codes.items() if code not in (0, NOTHING_SELECTED)]
    seconds = time.monotonic() - began
    if failed:
        print(f"test: FAILED in {' and '.join(failed)} ({seconds:.0f} s); see above")
        return codes[failed[0]]
    if set(codes.values()) == {NOTHING_SELECTED}:
        print("test: no test was selected")
        return NOTHING_SELECTED
    print(f"test: all passed in {seconds:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
