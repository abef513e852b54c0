"""Execs our own interpreter, clean, with a program of `inside` and the descriptors it is to have."""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Mapping
from typing import Any

from workers.sandbox import paths

BOOT = (  # the folder is the last argument, and not there for the program
    "import sys; sys.path.insert(0, sys.argv.pop()); "
    "from inside.{program} import main; del sys.path[0]; main()"
)
FOLDER = str(paths.PACKAGES / "sandbox")
HIGH = 32
"""Descriptors to hand down are first moved up here, so that none is overwritten by another."""
ENDED = {signal.SIGTERM}
"""Blocked from the start, so that a handler that is not there yet does not miss it."""
RESET = [signal.SIGPIPE, signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT]


def command(program: str, *arguments: str) -> list[str]:
    """Return the command line of our interpreter with `inside.<program>`."""
    boot = BOOT.format(program=program)
    return [str(paths.interpreter()[0]), "-I", "-S", "-X", "utf8", "-c", boot, *arguments, FOLDER]


def execute(program: str, descriptors: Mapping[int, int], environment: Mapping[str, str]) -> int:
    """Exec `inside.<program>` and return its pid.

    ``descriptors`` are ours, moved up (:func:`high`), by the numbers that they will have. Raises OSError
    when the interpreter cannot be started.
    """
    actions: list[Any] = [(os.POSIX_SPAWN_DUP2, descriptors[each], each) for each in sorted(descriptors)]
    argv = command(program)
    return os.posix_spawn(
        argv[0],
        argv,
        environment,
        file_actions=actions,
        setsigmask=list(ENDED),
        setsigdef=RESET,
    )


def high(descriptor: int) -> int:
    """Move a descriptor up, out of the way of the numbers that are handed down."""
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, HIGH)
    os.close(descriptor)
    return moved
