"""Following a task on the command line: its output, its states, its end, and Ctrl-C.

The task's stdout goes to stdout, everything else to stderr. With `--json` stdout carries the frames
of the live interface instead, one per line: a snapshot, every event, the end.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from switchyard.cli import exit_codes
from switchyard.cli.interrupts import Interrupts
from switchyard.cli.output import Output, on_terminal
from switchyard.cli.terminal import Screen
from switchyard.client import Client, Event, Task
from switchyard.client.errors import SwitchyardError, TaskFinished
from switchyard.client.models import TERMINAL

LEFT = "It goes on without us. To see it again: switchyard tasks logs {id} --follow"


def follow(
    client: Client, output: Output, task: Task, *, after: int = 0, output_only: bool = False
) -> int:
    """Show the task from event `after` on until it ends; return the exit code.

    `output_only` leaves out the lines about its states (`tasks logs --follow`).
    """
    if output.json:
        output.data({"kind": "snapshot", "task": task.raw, "seq": after})
    with Screen(progress=not output.json) as screen, Interrupts() as interrupts:
        view = _View(client, output, screen, task, after, output_only)
        asked_before = False
        while True:
            try:
                return view.run(interrupts)
            except KeyboardInterrupt:
                choice = _LEAVE if asked_before else _ask(screen)
                if choice == _LEAVE:
                    screen.remark(LEFT.format(id=task.id))
                    return exit_codes.RUNNING
                if choice == _CANCEL:
                    asked_before = True
                    _cancel(client, screen, task)
            except SwitchyardError:
                screen.remark(LEFT.format(id=task.id))
                raise


class _View:
    """What has been shown of a task so far; `run` goes on behind it, as often as it is called."""

    def __init__(
        self,
        client: Client,
        output: Output,
        screen: Screen,
        task: Task,
        after: int,
        output_only: bool,
    ) -> None:
        self._client = client
        self._output = output
        self._screen = screen
        self._task = task
        self._shown = after
        self._output_only = output_only
        self._lost = False

    def run(self, interrupts: Interrupts) -> int:
        """Show events until the end; return the exit code."""
        follower = self._client.follow_events(self._task, self._shown, on_interruption=self._interrupted)
        try:
            for event in follower:
                with interrupts.held():
                    self._show(event)
                    self._shown = max(self._shown, event.seq)
        finally:
            follower.close()
        with interrupts.held():
            self._ended(follower.status or "")
        return exit_codes.of_task(follower.status)

    def _interrupted(self, failure: SwitchyardError | None) -> None:
        if failure is not None and not self._lost:
            self._lost = True
            self._screen.remark("Connection lost; reconnecting …")

    def _show(self, event: Event) -> None:
        if self._lost:
            self._lost = False
            self._screen.remark("Connected again.")
        if self._output.json:
            self._output.data(event.raw)
            return
        for line in event.lines:
            self._screen.output(line.text, error=line.stream != "stdout")
        if event.kind == "progress":
            step = str(event.data.get("step") or "")
            self._screen.progress(_percent(event.data.get("percent")), step)
        elif event.kind == "state":
            if event.data.get("status") == "running":
                self._screen.progress(0, "")
            else:
                self._screen.waiting()
            # The end is told with its details when the stream is over.
            if not self._output_only and event.data.get("status") not in TERMINAL:
                self._screen.remark(f"· {_state(event)}")
        elif event.kind in ("error", "note") and not self._output_only:
            told = _remark(event.data)
            if told:
                self._screen.remark(f"· {told}")

    def _ended(self, status: str) -> None:
        self._screen.waiting()
        if self._output.json or self._output_only:
            return
        try:
            task = self._client.task(self._task)
        except SwitchyardError:
            # The end itself is known; only its details are missing.
            self._screen.remark(status)
            return
        for text, style in conclusion(task):
            self._screen.remark(text, style)


def conclusion(task: Task) -> list[tuple[str, str]]:
    """Return how a task ended as lines with their style: status, reason, error, result."""
    style = {"completed": "green", "failed": "red"}.get(task.status, "yellow")
    took = ""
    if task.started_at and task.finished_at:
        took = f" in {(task.finished_at - task.started_at).total_seconds():.1f} s"
    why = f" ({task.status_reason})" if task.status_reason else ""
    lines = [(f"{task.status}{why}{took}", style)]
    if task.error is not None:
        first = task.error.message.strip().partition("\n")[0]
        lines.append((f"{task.error.code}: {first}" if first else task.error.code, "red"))
    if task.result not in (None, {}, []):
        text = json.dumps(task.result, ensure_ascii=False)
        lines.append((f"result: {text if len(text) <= 400 else text[:400] + ' …'}", "dim"))
    return lines


_CANCEL, _LEAVE, _GO_ON = "c", "l", "f"


def _ask(screen: Screen) -> str:
    """Ask what a Ctrl-C means; without somebody to ask, the task is left alone."""
    if not (on_terminal(sys.stdin) and on_terminal(sys.stderr)):
        return _LEAVE
    screen.suspend()
    try:
        # Inside, too: who sees the question may press Ctrl-C before we are back from writing it.
        sys.stderr.write("\n[c]ancel the task, [l]eave it running, or go on [f]ollowing? ")
        sys.stderr.flush()
        answer = sys.stdin.readline()
    except KeyboardInterrupt:
        sys.stderr.write("\n")
        return _LEAVE
    word = answer.strip().lower()[:1]
    # End of input: whoever was there has gone.
    return word if word in (_CANCEL, _GO_ON) else _LEAVE if not answer or word == _LEAVE else _GO_ON


def _cancel(client: Client, screen: Screen, task: Task) -> None:
    try:
        client.cancel(task)
    except TaskFinished:
        return
    except SwitchyardError as error:
        screen.remark(f"It could not be cancelled: {error}", "red")
        return
    screen.remark("Cancel requested; waiting for it to end. Ctrl-C again leaves it.")


def _state(event: Event) -> str:
    status = str(event.data.get("status") or "")
    text = status.replace("_", " ")
    if status == "running" and event.run is not None and event.run > 1:
        text += f" (attempt {event.run})"
    reason = event.data.get("reason")
    return f"{text}: {reason}" if reason else text


def _remark(data: Any) -> str:
    if data.get("cancel_requested"):
        return f"cancel requested by {data.get('by') or 'somebody'}"
    if data.get("preempt_requested"):
        return "asked to make room for critical work"
    return str(data.get("message") or data.get("refused") or data.get("detail") or "")


def _percent(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
