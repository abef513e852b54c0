"""What happened to a task, in order: events by number, and log lines.

Events and log chunks share one number sequence per task and live in two tables; each question is one
statement over both, because two statements would see two moments and could show a gap.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import connection

from rest.times import rfc3339
from tasks.selectors.log_filter import LogFilter

MERGED = """
SELECT * FROM (
  (SELECT seq, at, kind, run, data::text AS data, NULL::text AS stream,
          NULL::bigint AS first_line, NULL::text[] AS lines, NULL::int[] AS offsets
     FROM event
    WHERE task_id = %(task)s AND seq > %(after)s
      AND (%(kinds)s::text[] IS NULL OR kind = ANY(%(kinds)s::text[]))
    ORDER BY seq LIMIT %(limit)s)
  UNION ALL
  (SELECT seq, at, 'log', run, NULL, stream, first_line, lines, offsets
     FROM log_chunk
    WHERE task_id = %(task)s AND seq > %(after)s AND %(logs)s
    ORDER BY seq LIMIT %(limit)s)
) merged ORDER BY seq LIMIT %(limit)s
"""

LINES = """
SELECT c.seq, c.first_line + l.i - 1 AS n, c.run, c.stream,
       c.at + l.after * interval '1 millisecond' AS at, l.line
  FROM log_chunk c
 CROSS JOIN LATERAL unnest(c.lines, c.offsets) WITH ORDINALITY AS l(line, after, i)
 WHERE c.task_id = %(task)s
   AND c.seq >= %(seq)s AND (c.seq > %(seq)s OR c.first_line + l.i - 1 > %(n)s)
   AND (%(run)s::int IS NULL OR c.run = %(run)s::int)
   AND (%(streams)s::text[] IS NULL OR c.stream = ANY(%(streams)s::text[]))
   AND (%(to)s::timestamptz IS NULL OR c.at <= %(to)s::timestamptz)
   AND (%(from)s::timestamptz IS NULL
        OR c.at + l.after * interval '1 millisecond' >= %(from)s::timestamptz)
   AND (%(to)s::timestamptz IS NULL
        OR c.at + l.after * interval '1 millisecond' <= %(to)s::timestamptz)
   AND (%(q)s::text IS NULL OR strpos(lower(l.line), lower(%(q)s::text)) > 0)
 ORDER BY c.seq, l.i
 LIMIT %(limit)s
"""


def events_after(
    task_id: uuid.UUID,
    after: int,
    *,
    limit: int = 500,
    kinds: Collection[str] | None = None,
) -> list[dict[str, Any]]:
    """Return the task's events with a number above ``after``, in order, as the live sockets' frames.

    A frame is ``{"seq", "at", "kind", "run", "data"}``; the data of kind ``log`` is
    ``{"stream", "lines": [{"n", "at", "text"}]}``. ``kinds`` narrows them; None is all.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            MERGED,
            {
                "task": task_id,
                "after": after,
                "limit": limit,
                "kinds": None if kinds is None else sorted(kinds),
                "logs": kinds is None or "log" in kinds,
            },
        )
        return [_frame(*row) for row in cursor.fetchall()]


def log_lines(
    task_id: uuid.UUID,
    wanted: LogFilter,
    *,
    limit: int = 500,
) -> list[dict[str, Any]]:
    """Return log lines ``{"seq", "n", "run", "stream", "at", "text"}`` in the order of arrival."""
    with connection.cursor() as cursor:
        cursor.execute(
            LINES,
            {
                "task": task_id,
                "seq": wanted.after[0],
                "n": wanted.after[1],
                "run": wanted.run,
                "streams": None if wanted.stream is None else sorted(wanted.stream),
                "q": wanted.q,
                "from": wanted.from_,
                "to": wanted.to,
                "limit": limit,
            },
        )
        return [
            {"seq": seq, "n": n, "run": of, "stream": name, "at": rfc3339(at), "text": text}
            for seq, n, of, name, at, text in cursor.fetchall()
        ]


def _frame(
    seq: int,
    at: datetime,
    kind: str,
    run: int | None,
    data: str | None,
    stream: str | None,
    first_line: int | None,
    lines: Sequence[str] | None,
    offsets: Sequence[int] | None,
) -> dict[str, Any]:
    if data is not None:
        content: dict[str, Any] = json.loads(data)
    else:
        content = {
            "stream": stream,
            "lines": [
                {"n": n, "at": rfc3339(at + timedelta(milliseconds=offset)), "text": text}
                for n, (text, offset) in enumerate(
                    zip(lines or (), offsets or (), strict=True), start=first_line or 0
                )
            ],
        }
    return {"seq": seq, "at": rfc3339(at), "kind": kind, "run": run, "data": content}
