"""Pages of a task's log for the live view: where its tail begins, what is before, where a line is.

The live stream replays everything after an event number, so a page of the log is a range of event
numbers that holds about :data:`PAGE_LINES` lines; chunks are never cut.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from django.db import connection

from tasks.models import LogChunk, Task
from tasks.selectors.history import events_after

PAGE_LINES = 2000
MOST_CHUNKS = 2000
"""However short the chunks are, a page has no more of them."""

# The numbers of lines are read, not the lines; the newest chunk is always part of the page.
PAGE_BEFORE = """
SELECT min(seq), count(*) FROM (
  SELECT seq, sum(cardinality(offsets)) OVER (ORDER BY seq DESC) - cardinality(offsets) AS later
    FROM (SELECT seq, offsets FROM log_chunk
           WHERE task_id = %(task)s AND seq < %(before)s
           ORDER BY seq DESC LIMIT %(chunks)s) newest
) counted WHERE later < %(lines)s
"""
WHOLE_LOG = 2**62

# CSI and OSC sequences, and any other escape of two characters (ECMA-48 §5.4, 5.6).
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[ -~]?")
_HIDDEN = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")


@dataclass(frozen=True)
class LogPage:
    """Chunks of the events ``after`` < seq < ``before``; ``more`` tells that older ones exist."""

    frames: list[dict[str, Any]]
    after: int
    more: bool


def tail_start(task: Task) -> tuple[int, bool]:
    """Return the event number after which the last page begins, and whether lines are before it."""
    after, _ = _range(task, WHOLE_LOG)
    return after, _exists(task, after)


def page_before(task: Task, before: int) -> LogPage:
    """Return the page of log frames that ends just before event ``before``."""
    after, count = _range(task, before)
    frames = events_after(task.pk, after, limit=count, kinds={"log"}) if count else []
    kept = [frame for frame in frames if frame["seq"] < before]
    return LogPage(kept, after, bool(count) and _exists(task, after))


def place_of(task: Task, run: int, line: int) -> int | None:
    """Return the event number after which the live view must begin to show a line of a run."""
    return (
        LogChunk.objects.filter(task_id=task.pk, run=run, first_line__lte=line)
        .order_by("-first_line")
        .values_list("seq", flat=True)
        .first()
    )


def last_lines(task: Task, count: int = 20) -> list[dict[str, Any]]:
    """Return the last lines of the log as plain text, for the failure box."""
    chunks = list(LogChunk.objects.filter(task_id=task.pk).order_by("-seq")[:count])
    lines = [
        {"n": chunk.first_line + index, "run": chunk.run, "stream": chunk.stream, "text": plain(text)}
        for chunk in reversed(chunks)
        for index, text in enumerate(chunk.lines)
    ]
    return lines[-count:]


def plain(text: str) -> str:
    """Return a line without escape sequences; other control characters become visible pictures."""
    shown = _ESCAPES.sub("", text)
    return _HIDDEN.sub(lambda found: _picture(ord(found[0])), shown)


def _picture(code: int) -> str:
    return chr(0x2400 + code) if code < 0x20 else f"<U+{code:04X}>"


def _range(task: Task, before: int) -> tuple[int, int]:
    with connection.cursor() as cursor:
        cursor.execute(
            PAGE_BEFORE,
            {
                "task": task.pk,
                "before": before,
                "chunks": MOST_CHUNKS,
                "lines": PAGE_LINES,
            },
        )
        row = cursor.fetchone()
    first, count = row if row else (None, 0)
    return (0, 0) if first is None else (first - 1, count)


def _exists(task: Task, up_to: int) -> bool:
    return LogChunk.objects.filter(task_id=task.pk, seq__lte=up_to).exists()
