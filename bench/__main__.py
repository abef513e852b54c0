"""Runs the benchmarks one after the other: ``make bench``, ``make bench ARGS="--quick latency limits"``.

Each part is a process of its own with a time after which it is given up, so one that fails or hangs is
shown and hides no other. A whole run is written on top of ``bench/RESULTS.md``, its raw numbers beside
it (``RESULTS.json``, not kept in version control). The exit code is 1 when a part failed; a target
that was missed is a result like any other.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from bench.parts import BUDGET_SECONDS, PARTS, Part
from bench.report import Report, load
from bench.results import RESULTS, Outcome, on_top, section
from bench.servers import ROOT

LAST_LINES = 25
END_SECONDS = 180


def run_part(part: Part, *, quick: bool) -> Outcome:
    """Run one part and read what it found, or why it found nothing."""
    before, began = " ".join(f"{each:.2f}" for each in os.getloadavg()), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        path = Path(folder) / "report.json"
        argv = [sys.executable, "-m", f"bench.{part.name}", *(part.quick if quick else part.full)]
        if not part.read:
            argv += ["--json", str(path)]
        process = subprocess.Popen(
            argv,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            text=True,
        )
        try:
            out, errors = process.communicate(timeout=part.patience)
            failure = "" if process.returncode == 0 else _end(errors) or f"exit {process.returncode}"
        except BaseException as error:
            out, errors = _end_it(process)
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            failure = f"given up after {part.patience} s\n{_end(errors)}"
        report = load(path) if path.exists() else Report(text=[out.strip(), ""])
    if part.read and not failure:
        report.targets = part.read(out)
    return Outcome(part, before, time.monotonic() - began, report, failure)


def _end_it(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Let a part clean up behind itself, as after Ctrl-C, and then end what is left of it."""
    os.killpg(process.pid, signal.SIGINT)
    try:
        return process.communicate(timeout=END_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return process.communicate()


def _end(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-LAST_LINES:])


def main() -> int:
    """Run what was asked for; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    names = [part.name for part in PARTS]
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(names)}; default: all")
    parser.add_argument("--quick", action="store_true", help="short forms, to see that all work")
    parser.add_argument(
        "--results", type=Path, help="where to write (default: RESULTS.md, if not quick)"
    )
    options = parser.parse_args()
    if unknown := set(options.parts) - set(names):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    chosen = [part for part in PARTS if part.name in (options.parts or names)]
    if not options.quick:
        about = sum(part.seconds for part in chosen)
        print(f"bench: {len(chosen)} parts, about {about} s of {BUDGET_SECONDS} s on an idle machine")
    began = datetime.now(UTC)
    outcomes = []
    for part in chosen:
        print(f"\n== {part.name}: {part.title}", flush=True)
        outcome = run_part(part, quick=options.quick)
        outcomes.append(outcome)
        print(outcome.report.markdown())
        if outcome.failure:
            print(f"FAILED: {outcome.failure}")
        print(f"({outcome.seconds:.0f} s; load before: {outcome.load})", flush=True)
    where = options.results or (None if options.quick else RESULTS)
    if where:
        arguments = " ".join([*(["--quick"] if options.quick else []), *options.parts])
        command = f'make bench ARGS="{arguments}"' if arguments else "make bench"
        new = section(outcomes, date=f"{began:%Y-%m-%d %H:%M} UTC", command=command)
        where.write_text(on_top(where.read_text() if where.exists() else "", new))
        raw = {outcome.part.name: outcome.report.raw for outcome in outcomes}
        where.with_suffix(".json").write_text(json.dumps(raw))
        print(f"\nbench: written to {where}")
    failed = [outcome.part.name for outcome in outcomes if outcome.failure]
    if failed:
        print(f"bench: FAILED: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
