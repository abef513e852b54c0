"""What a handler is given about its run, and what it can say while it works.

Light to import, like everything in this package that a run loads.
"""

from __future__ import annotations

import os
import select
import sys
from time import monotonic

from switchyard.errors import CHECKPOINT_CAP, Cancelled, TaskError, storable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from typing import Any, Protocol

    class Channel(Protocol):
        """The way to the supervisor: it talks on `control`; `heard` was read from that and kept."""

        control: int
        heard: bytes

        def emit(self, message: Mapping[str, Any]) -> None:
            """Send one message; blocks while the supervisor is slow to read."""


class RunContext:
    """One attempt at a task, as its handler sees it.

    `task`, `tenant` and `type` are texts, `attempt` counts from 1, `last_checkpoint` is what an
    earlier attempt of this task gave to `checkpoint` (or None).
    """

    def __init__(self, job: Mapping[str, Any], channel: Channel) -> None:
        self.task: str = job.get("task", "")
        self.tenant: str = job.get("tenant", "")
        self.type: str = job.get("type", "")
        self.attempt: int = job.get("attempt", 1)
        self.last_checkpoint: Any = job.get("checkpoint")
        self.egress_allow: tuple[str, ...] = tuple(job.get("egress_allow", ()))
        self._secrets: Mapping[str, str] = job.get("secrets") or {}
        self._workspace: str = job["workspace"]
        self._channel = channel
        self._cleanups: list[Callable[[], object]] = []
        self._reason: str | None = None

    @property
    def workspace(self) -> Path:
        """The folder of this run: empty at the start, or the checkout; gone after the end."""
        from pathlib import Path

        return Path(self._workspace)

    def progress(self, percent: float, step: str = "") -> None:
        """Show how far the run is: 0 to 100, and in a few words what it is at."""
        percent = min(100.0, max(0.0, float(percent)))
        self._channel.emit({"op": "progress", "percent": percent, "step": storable(str(step)[:200])})

    def log(self, text: str, stream: str = "system") -> None:
        """Add text to the run's log, beside what is printed; the stream is stdout, stderr or system."""
        self._channel.emit({"op": "log", "text": str(text), "stream": stream})

    def checkpoint(self, data: Any) -> None:
        """Keep a JSON value that the next attempt finds in `last_checkpoint`; the newest counts.

        Raises TaskError (`checkpoint_too_large`) for more than 256 KiB: an earlier one then stays.
        """
        import json

        size = len(json.dumps(data, allow_nan=False, separators=(",", ":")).encode())
        if size > CHECKPOINT_CAP:
            raise TaskError(
                "checkpoint_too_large",
                f"A checkpoint may have {CHECKPOINT_CAP:,} bytes as JSON, this one has {size:,}. "
                "Keep in it where to go on, and large data in an artifact.",
                retry=False,
            )
        self._channel.emit({"op": "checkpoint", "data": data})

    def artifact(self, path: str | os.PathLike[str], name: str | None = None) -> None:
        """Keep a file of the workspace after the run; the name defaults to the file's own."""
        absolute = os.path.join(self._workspace, os.fspath(path))
        inside = os.path.relpath(absolute, self._workspace)
        if inside.startswith(".."):
            raise ValueError(f"{os.fspath(path)!r} is not in the workspace of this run.")
        message = {"op": "artifact", "name": name or os.path.basename(inside), "path": inside}
        if storable(message) != message:
            raise ValueError(
                f"{os.fspath(path)!r} is no name that can be kept: rename it to plain UTF-8."
            )
        self._channel.emit(message)

    def secret(self, name: str) -> str:
        """The value of a secret that the task type or the task named; KeyError for any other."""
        try:
            return self._secrets[name]
        except KeyError:
            raise KeyError(f"This run was given no secret {name!r}; name it in the task.") from None

    @property
    def secrets(self) -> Mapping[str, str]:
        """All secrets of this run by name, for those who hand them to a program."""
        return dict(self._secrets)

    @property
    def cancelled(self) -> bool:
        """Whether the run has been asked to stop."""
        return self.stop_reason is not None

    @property
    def stop_reason(self) -> str | None:
        """Why the run is to stop: user_cancelled, timed_out, shutdown or preempted; None: it is not."""
        self._listen()
        return self._reason

    def check_cancelled(self) -> None:
        """Raise Cancelled when the run has been asked to stop; cheap enough for an inner loop."""
        if self.cancelled:
            raise Cancelled(self._reason or "")

    def sleep(self, seconds: float) -> None:
        """Sleep, and raise Cancelled as soon as the run is asked to stop."""
        until = monotonic() + seconds
        poller = select.poll()
        poller.register(self._channel.control, select.POLLIN)
        self.check_cancelled()
        while (left := until - monotonic()) > 0:
            poller.poll(left * 1000)
            self.check_cancelled()

    def on_cleanup(self, function: Callable[[], object]) -> None:
        """Call `function` once when the handler ends, however it ends (newest first), SIGKILL apart.

        All clean-ups together have the cancel grace (10 s by default) and are killed then.
        """
        self._cleanups.append(function)

    @property
    def has_cleanups(self) -> bool:
        """Whether something is to be done at the end."""
        return bool(self._cleanups)

    def run_cleanups(self) -> None:
        """Run what `on_cleanup` was given; one that fails is reported and stops no other."""
        while self._cleanups:
            function = self._cleanups.pop()
            try:
                function()
            except BaseException:  # the remaining ones must run whatever this one raised
                sys.excepthook(*sys.exc_info())

    def _listen(self) -> None:
        """Read what the supervisor said since last time, without ever waiting for it."""
        poller = select.poll()
        poller.register(self._channel.control, select.POLLIN)
        while self._reason is None:
            line, newline, rest = self._channel.heard.partition(b"\n")
            if newline:
                self._channel.heard = rest
                self._obey(line)
            elif not poller.poll(0):
                return
            elif data := os.read(self._channel.control, 65536):
                self._channel.heard += data
            else:  # the supervisor is gone, and nobody is left to take a result
                self._reason = "supervisor_lost"

    def _obey(self, line: bytes) -> None:
        """Do what one line from the supervisor asks; there is only `cancel` so far."""
        import json

        order = json.loads(line)
        if order.get("op") == "cancel":
            self._reason = str(order.get("reason") or "cancelled")
