"""How one task, its lines and its events look on a terminal and in a pipe."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING

from switchyard.cli.output import Output, in_colour, on_terminal
from switchyard.cli.text import log_line, printable

if TYPE_CHECKING:
    from switchyard.client import Event, LogLine, Run, Task


def show_task(output: Output, task: Task) -> None:
    """Print a task's members that have something to say, then its runs."""
    waiting = task.waiting_for
    status = f"{task.status} ({task.status_reason})" if task.status_reason else task.status
    cancelling = task.cancel_requested and not task.ended
    output.record(
        [
            ("task", task.id),
            ("type", task.type),
            ("status", f"{status}, cancel requested" if cancelling else status),
            ("waits for", (waiting.detail or waiting.reason) if waiting else None),
            ("position", waiting.position if waiting else None),
            ("progress", _progress(task)),
            ("queue", task.queue),
            ("priority", task.priority or None),
            ("labels", " ".join(f"{name}={value}" for name, value in task.labels.items())),
            ("key", task.key),
            ("depends on", " ".join(task.depends_on)),
            ("submitted", _by(task)),
            ("scheduled", _time(task.scheduled_for)),
            ("started", _time(task.started_at)),
            ("finished", _time(task.finished_at)),
            ("next attempt", _time(task.next_retry_at)),
            ("counts", " ".join(f"{name}={count}" for name, count in task.counts.items() if count)),
            ("params", json.dumps(dict(task.params), ensure_ascii=False) if task.params else None),
            ("error", f"{task.error.code}: {task.error.message}" if task.error else None),
            ("result", json.dumps(task.result, ensure_ascii=False) if task.result else None),
            ("web", task.links.get("html")),
        ]
    )
    if task.runs:
        output.line("")
        rows = [_run(run) for run in task.runs]
        output.table(("RUN", "STATUS", "STARTED", "SECONDS", "EXIT"), rows, "")


def show_lines(output: Output, lines: Iterable[LogLine]) -> None:
    """Print log lines; with --json one object per line."""
    for line in lines:
        if output.json:
            output.data(line.raw)
            continue
        stream = sys.stdout if line.stream == "stdout" else sys.stderr
        text = log_line(line.text, colour=in_colour(stream)) if on_terminal(stream) else line.text
        stream.write(f"{text}\n")
    sys.stdout.flush()
    sys.stderr.flush()


def show_events(output: Output, events: Iterable[Event]) -> None:
    """Print events, one per line, each at once; with --json as they are."""
    for event in events:
        if output.json:
            output.data(event.raw)
            continue
        at = f"{event.at:%H:%M:%S}" if event.at else " " * 8
        output.line(f"{event.seq:>5} {at} {printable(event.kind):<8} {_content(event)}")


def _content(event: Event) -> str:
    if event.kind == "end":
        return printable(str(event.raw.get("status", "")))
    if event.kind == "log":
        count = len(event.lines)
        first = event.lines[0].text if event.lines else ""
        more = f" (+{count - 1} lines)" if count > 1 else ""
        return f"{printable(str(event.data.get('stream', '')))}: {printable(first)}{more}"
    told = " ".join(
        f"{name}={value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
        for name, value in event.data.items()
        if value not in (None, "")
    )
    return printable(told)


def _run(run: Run) -> tuple[object, ...]:
    seconds = ""
    if run.started_at and run.finished_at:
        seconds = f"{(run.finished_at - run.started_at).total_seconds():.1f}"
    return (run.attempt, run.status, _time(run.started_at), seconds, run.exit_code)


def _progress(task: Task) -> str | None:
    if task.status != "running":
        return None
    return f"{task.progress.percent:g}% {task.progress.step}".strip()


def _by(task: Task) -> str:
    return " ".join(filter(None, (_time(task.created_at), f"by {task.submitted_by}")))


def _time(value: datetime | None) -> str | None:
    return f"{value.astimezone():%Y-%m-%d %H:%M:%S}" if value else None
