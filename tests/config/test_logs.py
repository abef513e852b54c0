"""Lines of the log: ours and those of libraries look the same, and none is more than a line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime
from typing import IO

EVIL = "red\x1b[31m\x07 \u202eback\nnew line"
ESCAPED = r"red\x1b[31m\x07 \u202eback"

PROGRAM = f"""
import logging, os, django, structlog
django.setup()
evil = {EVIL!r}
ours, theirs = structlog.get_logger("ours"), logging.getLogger("theirs")
ours.debug("nobody_asked")
theirs.debug("nobody asked")
with structlog.contextvars.bound_contextvars(tenant="acme", task="t1"):
    ours.warning("run_ended", run="failed")
    theirs.warning("hello %s", "there")
ours.warning(evil, said=evil)
theirs.warning(evil)
try:
    raise ValueError(evil)
except ValueError:
    ours.exception("bad")
    theirs.exception("bad")
print("all told", flush=True)
os._exit(0)  # Python itself would end with 120 if its last lines cannot be written
"""


def run(stderr: int | IO[bytes], settings: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Say what there is to say in a process of its own, to its own standard error."""
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "config.settings", **settings}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=stderr, text=True)
    assert (done.returncode, done.stdout) == (0, "all told\n"), done.stderr
    return done


def test_a_line_is_one_of_json_and_says_what_who_when_how_serious_and_what_is_bound() -> None:
    said = run(subprocess.PIPE, {"SWITCHYARD_LOG_FORMAT": "json", "SWITCHYARD_LOG_LEVEL": "INFO"}).stderr
    lines = [json.loads(line) for line in said.splitlines()]
    for line in lines:
        assert datetime.fromisoformat(line.pop("timestamp")).utcoffset() is not None
    ended, hello, our_text, their_text, our_error, their_error = lines
    bound = {"tenant": "acme", "task": "t1", "level": "warning"}
    assert ended == {"event": "run_ended", "run": "failed", "logger": "ours", **bound}
    assert hello == {"event": "hello there", "logger": "theirs", **bound}
    text = rf"{ESCAPED}\nnew line"
    assert our_text == {"event": text, "said": text, "logger": "ours", "level": "warning"}
    assert their_text == {"event": text, "logger": "theirs", "level": "warning"}
    for line in (our_error, their_error):
        assert (line["event"], line["level"]) == ("bad", "error")
        assert line["exception"].startswith("Traceback (most recent call last):\n")
        assert line["exception"].endswith(f"ValueError: {ESCAPED}\nnew line")


def test_on_a_terminal_no_text_forges_a_line_or_a_command() -> None:
    said = run(subprocess.PIPE, {"SWITCHYARD_LOG_FORMAT": "console"}).stderr
    assert "\x1b" not in said
    assert "\x07" not in said
    texts = [line for line in said.splitlines() if "red" in line and "ValueError" not in line]
    assert [rf"{ESCAPED}\nnew line" in line for line in texts] == [True, True]


def test_nobodys_work_fails_because_the_disk_takes_no_line() -> None:
    with open("/dev/full", "wb") as full:
        run(full, {})
