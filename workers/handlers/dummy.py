"""`test.dummy`: behaves as told, well or badly; for trying the platform, never for work."""

from __future__ import annotations

import os
import sys
import time

from switchyard import RunContext, TaskError, handler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

MIB = 1024 * 1024
TEXT = {"type": "string", "default": "", "maxLength": 256 * 1024}
SWITCH = {"type": "boolean", "default": False}
PARAMS = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "tell_time": SWITCH,
        "seconds": {"type": "number", "default": 0, "minimum": 0, "maximum": 86400},
        "steps": {"type": "integer", "default": 0, "minimum": 0, "maximum": 100000},
        "fail": {"type": ["string", "boolean", "null"], "default": None, "maxLength": 100000},
        "fail_times": {"type": ["integer", "null"], "default": None, "minimum": 0, "maximum": 1000},
        "error_code": {
            "type": ["string", "null"],
            "default": None,
            "pattern": "^[a-z][a-z0-9_.]{0,63}$",
        },
        "exit": {"type": ["integer", "null"], "default": None, "minimum": 0, "maximum": 255},
        "signal": {
            "oneOf": [
                {"type": "null"},
                {"type": "integer", "minimum": 1, "maximum": 64},
                {"type": "string", "pattern": "^(SIG)?[A-Z0-9]{2,10}$"},
            ],
            "default": None,
        },
        "ignore_cancel": SWITCH,
        "ignore_sigterm": SWITCH,
        "stdout": TEXT,
        "stderr": TEXT,
        "repeat": {"type": "integer", "default": 1, "minimum": 0, "maximum": 100000000},
        "allocate_mb": {"type": "integer", "default": 0, "minimum": 0, "maximum": 1000000},
        "spawn_daemon": SWITCH,
        "checkpoint": SWITCH,
        "result": {"type": ["object", "null"], "default": None},
    },
}


@handler("test.dummy", params=PARAMS, title="Test task", idempotent=True, time_limit=86400)
def behave(run: RunContext, params: Mapping[str, Any]) -> dict[str, Any] | None:
    """Sleep in steps with progress, print, then end as told: result, error, exit code or signal.

    With `tell_time` the first line is the clock in nanoseconds as it is now, before anything else.
    """
    if params.get("tell_time"):
        print(time.time_ns(), flush=True)
    if params.get("ignore_sigterm"):
        import signal

        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if params.get("spawn_daemon"):
        _spawn_daemon()
    held = bytearray(b"\1") * (params.get("allocate_mb", 0) * MIB)
    _sleep(run, params)
    _print(params)
    del held
    _end(run, params)
    result: dict[str, Any] | None = params.get("result")
    return result


def _sleep(run: RunContext, params: Mapping[str, Any]) -> None:
    """Sleep `seconds` in `steps` slices; with `checkpoint` go on where an earlier attempt stopped."""
    steps = params.get("steps", 0)
    slices = max(1, steps)
    done = 0
    if params.get("checkpoint") and isinstance(run.last_checkpoint, dict):
        done = min(slices, int(run.last_checkpoint.get("step", 0)))
    for step in range(done, slices):
        seconds = params.get("seconds", 0) / slices
        if params.get("ignore_cancel"):
            time.sleep(seconds)
        else:
            run.sleep(seconds)
        if steps:
            run.progress(100 * (step + 1) / steps, f"step {step + 1} of {steps}")
        if params.get("checkpoint"):
            run.checkpoint({"step": step + 1})


def _print(params: Mapping[str, Any]) -> None:
    for stream, text in ((sys.stdout, params.get("stdout")), (sys.stderr, params.get("stderr"))):
        if text:
            for _ in range(params.get("repeat", 1)):
                print(text, file=stream)
            stream.flush()


def _end(run: RunContext, params: Mapping[str, Any]) -> None:
    """End otherwise than with a result, if that is what was asked for."""
    signal_wanted, code = params.get("signal"), params.get("exit")
    if signal_wanted is not None:
        import signal

        if isinstance(signal_wanted, str):
            name = "SIG" + signal_wanted.removeprefix("SIG")
            signal_wanted = getattr(signal.Signals, name, None)
            if signal_wanted is None:
                raise TaskError("bad_signal", f"There is no signal {params['signal']}.")
        os.kill(os.getpid(), signal_wanted)
    if code is not None:
        os._exit(code)
    fail, fail_times = params.get("fail"), params.get("fail_times")
    if fail or (fail_times is not None and run.attempt <= fail_times):
        message = fail if isinstance(fail, str) else f"failed as told, attempt {run.attempt}"
        if params.get("error_code"):
            raise TaskError(params["error_code"], message)
        raise RuntimeError(message)


def _spawn_daemon() -> None:
    """Leave a process behind that has gone out of its way not to be found."""
    if os.fork():
        os.wait()
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    with open("daemon.pid", "w") as file:
        file.write(str(os.getpid()))
    for descriptor in range(3):
        os.close(descriptor)
    while True:
        time.sleep(3600)
