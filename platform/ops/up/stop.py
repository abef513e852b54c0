"""``up --stop``: end the `up` that runs on a state folder, from another shell, and wait for it."""

from __future__ import annotations

import os
import signal
import time

from ops.up.progress import Progress
from ops.up.state import State


def stop(state: State, progress: Progress) -> int:
    """Ask the holder of the lock to stop; return 0 once it is gone, 1 when it cannot be stopped."""
    if not state.is_held():
        progress.stopped(f"nothing runs on the state folder {state.folder}")
        return 0
    holder = state.holder()
    pid, seconds = holder.get("pid"), float(holder.get("stop_within") or 60)
    if not isinstance(pid, int):
        progress.failed("it is just starting or stopping; try again in a moment.")
        return 1
    try:
        # Whoever holds the lock wrote this number, so it cannot be a stranger's process.
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        pass
    except PermissionError:
        progress.failed(f"process {pid} belongs to somebody else; stop it as that user.")
        return 1
    progress.step(f"asked process {pid} to stop; running tasks may finish first")
    deadline = time.monotonic() + seconds
    while state.is_held():
        if time.monotonic() > deadline:
            progress.failed(f"process {pid} still runs after {seconds:.0f} s.")
            return 1
        time.sleep(0.05)
    progress.stopped()
    return 0
