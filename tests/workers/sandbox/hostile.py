"""Handlers that behave as handlers should not, run inside by the tests of this folder."""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

from switchyard import Cancelled, Command, RunContext, TaskError, handler

ANY = {"type": "object"}


@handler("hostile.echo", params=ANY)
def echo(run: RunContext, params: dict[str, Any]) -> dict[str, Any]:
    """Say what arrived."""
    environment = dict(os.environ)
    return {
        "size": len(params.get("text", "")),
        "secret": run.secret("TOKEN") if "TOKEN" in run.secrets else None,
        "environment": environment,
        "arguments": sys.argv,
        "checkpoint": run.last_checkpoint,
    }


@handler("hostile.polite", params=ANY)
def polite(run: RunContext, _params: dict[str, Any]) -> None:
    """Stop when asked, and clean up."""
    run.on_cleanup(lambda: print("first registered", flush=True))
    run.on_cleanup(lambda: print("last registered", flush=True))
    print("ready", flush=True)
    run.sleep(60)


OPEN: list[Any] = []


@handler("hostile.untidy", params=ANY)
def untidy(run: RunContext, _params: dict[str, Any]) -> dict[str, Any]:
    """Leave to the end of the process what should have been done before."""

    def be_late() -> None:
        time.sleep(0.2)
        print("the thread has ended")

    for name, mode in (("text", "w"), ("bytes", "wb"), ("both", "w+b")):
        file = open(run.workspace / name, mode)  # noqa: SIM115 - that is what this is about
        file.write("kept" if mode == "w" else b"kept")
        OPEN.append(file)
    atexit.register(lambda: print("at exit", end=""))
    threading.Thread(target=be_late).start()
    return {"files": [str(run.workspace / name) for name in ("text", "bytes", "both")]}


@handler("hostile.deaf", params=ANY)
def deaf(run: RunContext, _params: dict[str, Any]) -> None:
    """Never ask whether to stop; clean-ups must run on SIGTERM all the same."""
    run.on_cleanup(lambda: print("cleaned", flush=True))
    print("ready", flush=True)
    time.sleep(60)


@handler("hostile.stubborn", params=ANY)
def stubborn(_run: RunContext, _params: dict[str, Any]) -> None:
    """Swallow everything that can be swallowed."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        try:
            print("ready", flush=True)
            time.sleep(60)
        except Cancelled:
            continue


@handler("hostile.litter", params=ANY)
def litter(_run: RunContext, _params: dict[str, Any]) -> None:
    """Leave ten processes behind, out of the session, and go on."""
    for _ in range(10):
        subprocess.Popen(
            "sleep 61.25 & exec sleep 61.25",
            shell=True,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    print("ready", flush=True)
    time.sleep(60)


@handler("hostile.known", params=ANY)
def known(_run: RunContext, _params: dict[str, Any]) -> None:
    """Fail for a known reason."""
    raise TaskError("no_such_org", "The org is gone.", retry=False, detail={"org": "x"})


@handler("hostile.unknown", params=ANY)
def unknown(_run: RunContext, _params: dict[str, Any]) -> None:
    """Fail for an unknown reason, at length."""
    raise LookupError("m" * 10000)


@handler("hostile.no_json", params=ANY)
def no_json(_run: RunContext, _params: dict[str, Any]) -> dict[str, Any]:
    """Return what is no JSON."""
    return {"value": object()}


@handler("hostile.quit", params=ANY)
def leave(run: RunContext, _params: dict[str, Any]) -> None:
    """End the process by itself; clean-ups run."""
    run.on_cleanup(lambda: print("cleaned", flush=True))
    sys.exit(7)


@handler("hostile.command", params=ANY)
def command(_run: RunContext, params: dict[str, Any]) -> Command:
    """Become a program."""
    return Command(**params)


SEEN: list[str] = []


@handler("hostile.remember", params=ANY)
def remember(_run: RunContext, _params: dict[str, Any]) -> dict[str, Any]:
    """Tell what earlier runs have left in this module's memory, and what this one holds."""
    import random

    before = list(SEEN)
    SEEN.append("somebody was here")
    descriptors = sorted(int(each) for each in os.listdir("/proc/self/fd"))
    return {"seen": before, "random": random.random(), "descriptors": descriptors[:-1]}
