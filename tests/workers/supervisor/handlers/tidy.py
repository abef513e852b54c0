"""Handlers of the supervisor's tests: they do what a test wants to see survived, and write down when."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

from switchyard import Cancelled, RunContext, handler

ANY = {"type": "object"}


@handler("tidy.clean_up", params=ANY, idempotent=True)
def clean_up(run: RunContext, params: dict[str, Any]) -> None:
    """Register hooks that print, then do what `params` say: sleep, spin, fail, hang in a hook."""

    def hang() -> None:
        print("hook hangs")
        while True:
            time.sleep(60)

    def fail() -> None:
        print("hook fails")
        raise RuntimeError("the hook broke")

    run.on_cleanup(lambda: print("cleaned"))
    if params.get("hook") == "hang":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        run.on_cleanup(hang)
    if params.get("hook") == "fail":
        run.on_cleanup(fail)
    print("ready")
    try:
        if params.get("deaf"):
            time.sleep(params.get("seconds", 0))
        else:
            run.sleep(params.get("seconds", 0))
    except Cancelled as request:
        if params.get("tell"):
            print(f"stopped: {request.reason}")
        raise
    if params.get("fail"):
        raise ValueError("as told")


@handler("tidy.garbage", params=ANY, idempotent=True)
def garbage(_run: RunContext, params: dict[str, Any]) -> None:
    """Write what is no message where messages go, and wait."""
    rest = params["bytes"].encode()
    while rest:
        rest = rest[os.write(4, rest) :]
    if params.get("leave"):
        os._exit(0)
    time.sleep(60)


@handler("tidy.die", params=ANY, idempotent=True)
def die(_run: RunContext, params: dict[str, Any]) -> None:
    """End as C code would that goes wrong."""
    if params["how"] == "segfault":
        import ctypes

        ctypes.string_at(0)
    if params["how"] == "memory":
        held = []
        while True:
            held.append(bytearray(params["size"]))
    if params["how"] == "memory_swallowed":
        try:
            bytearray(1024**4)
        except MemoryError:
            os._exit(7)
    if params["how"] == "file":
        with open("large", "wb") as file:
            while True:
                file.write(bytes(1024 * 1024))
    if params["how"] == "descriptors":
        opened = []
        try:
            while True:
                opened.append(os.open(os.devnull, os.O_RDONLY))
        except OSError as error:
            print(f"errno {error.errno} at {max(opened) + 1}")
            raise
    if params["how"] == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    sys.exit(3)
