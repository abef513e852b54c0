"""The command line of the self-test.

    switchyard selftest [--state DIR | --url URL --token TOKEN --broker URL] [--tenant SLUG] [--json]

Exit codes: 0 every promise was kept (skipped steps are told), 1 one was broken, or nothing could be
tested, 2 usage.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from ops.selftest import steps
from ops.selftest.canaries import TENANT, Canaries
from ops.selftest.doorbell import Doorbell
from ops.up.session import default_state
from ops.up.state import State
from switchyard.client.errors import SwitchyardError

PATIENCE_SECONDS = 150.0
"""How long one canary may take: a lease and a half of the defaults, and a busy queue."""

SIGNS = {"kept": "ok", "broken": "BROKEN", "skipped": "skipped"}


@dataclass(frozen=True)
class Result:
    """What one step saw: ``kept``, ``broken`` or ``skipped``, and a sentence."""

    step: str
    outcome: str
    told: str
    seconds: float


def run(argv: list[str]) -> int:
    """Run the self-test with its arguments and return the exit code."""
    arguments = _parser().parse_args(argv)
    known = State(arguments.state or default_state()).read_credentials()
    url = arguments.url or os.environ.get("SWITCHYARD_URL") or known.get("url")
    token = arguments.token or os.environ.get("SWITCHYARD_TOKEN") or known.get("operator_token")
    broker = arguments.broker or os.environ.get("BROKER_URL") or known.get("broker_url")
    if not url or not token:
        print(
            "switchyard: the self-test needs the platform's address and a platform operator's token: "
            "run it beside the state folder of `up`, or give --url and --token.",
            file=sys.stderr,
        )
        return 1
    try:
        with Canaries(url, token, tenant=arguments.tenant, patience=arguments.patience) as canaries:
            results = test(canaries, Doorbell(broker or ""), quiet=arguments.json)
    except SwitchyardError as error:
        print(f"switchyard: {error}", file=sys.stderr)
        return 1
    good = all(result.outcome != "broken" for result in results)
    if arguments.json:
        print(json.dumps({"passed": good, "steps": [asdict(result) for result in results]}, indent=2))
    else:
        print("Every promise was kept." if good else "A promise was broken.")
    return 0 if good else 1


def test(canaries: Canaries, doorbell: Doorbell, *, quiet: bool) -> list[Result]:
    """Do every step, whatever the others brought; return what each saw."""
    every: dict[str, steps.Step] = {
        "isolation": steps.isolation_is_reported,
        "run": steps.every_queue_works,
        "cancel": steps.what_is_cancelled_while_it_waits_never_starts,
        "lost message": partial(steps.a_lost_message_is_sent_again, doorbell=doorbell),
        "killed supervisor": steps.a_killed_supervisor_is_survived,
        "promises": steps.promises_were_kept,
    }
    results = []
    for name, step in every.items():
        began = time.monotonic()
        try:
            outcome, told = "kept", step(canaries)
        except steps.Broken as broken:
            outcome, told = "broken", str(broken)
        except steps.Skipped as skipped:
            outcome, told = "skipped", str(skipped)
        except SwitchyardError as error:
            outcome, told = "broken", str(error)
        results.append(Result(name, outcome, told, round(time.monotonic() - began, 2)))
        if not quiet:
            print(f"{SIGNS[outcome]:<8} {name:<18} {told}", flush=True)
    return results


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="switchyard selftest",
        description="Break a running platform a little, on a tenant of its own, and check its promises.",
    )
    parser.add_argument("--state", type=Path, metavar="DIR", help="state folder of `up` (.switchyard)")
    parser.add_argument("--url", metavar="URL", help="the server's address")
    parser.add_argument("--token", metavar="TOKEN", help="a platform operator's token")
    parser.add_argument("--broker", metavar="URL", help="the broker, to lose a message from it")
    parser.add_argument("--tenant", default=TENANT, metavar="SLUG", help=f"default {TENANT}")
    parser.add_argument("--patience", type=float, default=PATIENCE_SECONDS, metavar="SECONDS",
                        help="how long one canary may take")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    return parser
