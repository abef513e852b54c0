"""Named steps at which tests can make a process die, stop or fail.

``SWITCHYARD_FAULT_POINTS=after_claim:kill9,before_finish:stop`` arms points; each fires once per
deployment (a file in the state folder remembers it) unless the action ends with ``*``. The setting
is refused unless test task types are on, so a production process never looks further than an empty
string.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

from django.conf import settings

POINTS = (
    "before_commit",
    "after_commit",
    "before_publish",
    "after_publish",
    "before_claim",
    "after_claim",
    "before_workspace",
    "before_inputs",
    "before_checkout",
    "before_handler",
    "after_handler",
    "before_artifacts",
    "after_artifacts",
    "before_finish",
    "after_finalise",
    "before_wipe",
    "in_reap",
    "in_dispatch",
)
"""Every point there is, in the order of a task's life."""

ACTIONS = ("kill9", "stop", "exit", "raise")


class FaultInjected(Exception):
    """An armed fault point with the action ``raise`` was reached."""


def reach(point: str) -> None:
    """Do what is armed at ``point``; nothing, outside of tests."""
    armed = settings.SWITCHYARD.fault_points
    if not armed:
        return
    for entry in armed.split(","):
        name, _, action = entry.strip().partition(":")
        if name != point:
            continue
        if not action.endswith("*") and not _first_time(point):
            continue
        _act(point, action.removesuffix("*"))


def check_fault_points(text: str) -> list[str]:
    """Return the entries of ``text`` that name no known point or action."""
    wrong = []
    for entry in filter(None, (part.strip() for part in text.split(","))):
        name, _, action = entry.partition(":")
        if name not in POINTS or action.removesuffix("*") not in ACTIONS:
            wrong.append(entry)
    return wrong


def _first_time(point: str) -> bool:
    marks: Path = settings.SWITCHYARD.state / "faults"
    marks.mkdir(parents=True, exist_ok=True)
    try:
        os.close(os.open(marks / point, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def _act(point: str, action: str) -> None:
    if action == "stop":
        # Whoever is continued goes on where it stopped, as a machine does that wakes up.
        os.kill(os.getpid(), signal.SIGSTOP)
        return
    if action == "kill9":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "exit":
        os._exit(70)
    raise FaultInjected(point)
