"""A tenant's feed: every state change since a cursor, also those that committed late.

Transactions become visible in another order than that of any number or time they carry. So a cursor
is a PostgreSQL snapshot: what is new is what that snapshot could not see and the present one can
(the idea is that of logical decoding; functions: PostgreSQL manual 9.27, ``pg_visible_in_snapshot``).
Each event row carries the id of its transaction (``event.txid``, migration 0002).

A reading that has more rows than a page is taken up again at the place where it stopped: its cursor
holds both snapshots and the last row that was sent. Progress is shown as it is now and never
replayed.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import uuid
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from django.db import connection

from live import limits
from rest.errors import ValidationFailed
from rest.times import rfc3339

_SNAPSHOT = re.compile(r"[1-9][0-9]{0,18}:[1-9][0-9]{0,18}:(?:[0-9]{1,19}(?:,[0-9]{1,19})*)?")
_LONGEST = 16_000

# The filter on txid alone uses the index event_feed; the rest looks at the few rows behind it.
# Ordered by task and number, so that no task's changes are ever shown in the wrong order.
CHANGES = """
SELECT task_id, seq, at, kind, run, data::text
  FROM event
 WHERE tenant_id = %(tenant)s AND kind = 'state'
   AND txid >= pg_snapshot_xmin(%(seen)s::pg_snapshot)
   AND NOT pg_visible_in_snapshot(txid, %(seen)s::pg_snapshot)
   AND pg_visible_in_snapshot(txid, %(now)s::pg_snapshot)
   AND (%(task)s::uuid IS NULL OR (task_id, seq) > (%(task)s::uuid, %(seq)s))
 ORDER BY task_id, seq
 LIMIT %(limit)s
"""

PROGRESS = """
SELECT DISTINCT ON (task_id) task_id, seq, at, kind, run, data::text
  FROM event
 WHERE task_id = ANY(%(tasks)s) AND tenant_id = %(tenant)s AND kind = 'progress'
 ORDER BY task_id, seq DESC
"""


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in the feed.

    ``seen`` is the snapshot up to which everything was sent. Inside a reading ``until`` is the
    snapshot that it shows, and ``task`` and ``seq`` name the last row that was sent of it.
    """

    seen: str
    until: str | None = None
    task: uuid.UUID | None = None
    seq: int = 0

    def is_ahead_of(self, other: Cursor) -> bool:
        """Tell whether this is a place that ``other`` has not reached, so never was one of ours."""
        return max(_end(self.seen), _end(self.until or self.seen)) > _end(other.seen)

    def text(self) -> str:
        """Return the opaque form that clients keep."""
        parts: list[Any] = [self.seen]
        if self.until is not None:
            parts += [self.until, str(self.task), self.seq]
        return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")

    @classmethod
    def read(cls, text: str) -> Cursor:
        """Read what :meth:`text` wrote.

        Raises:
            ValidationFailed: it is something else.
        """
        try:
            if len(text) > _LONGEST or not text.isascii():
                raise ValueError
            padded = text + "=" * (-len(text) % 4)
            parts = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
            match parts:
                case [str(seen)]:
                    return cls(_snapshot(seen))
                case [str(seen), str(until), str(task), int(seq)] if 0 <= seq < 2**63:
                    return cls(_snapshot(seen), _snapshot(until), uuid.UUID(task), seq)
        except (ValueError, binascii.Error, RecursionError):
            pass
        raise ValidationFailed.at("query:after", "invalid", "Give the cursor of a frame.")


def _snapshot(text: str) -> str:
    """Check a snapshot as PostgreSQL does: ``xmin:xmax:xip,…``, rising, 64 bits."""
    if not _SNAPSHOT.fullmatch(text):
        raise ValueError
    low, high, running = text.split(":")
    ids = [int(number) for number in running.split(",")] if running else []
    inside = all(int(low) <= number < int(high) for number in ids)
    if not (int(low) <= int(high) < 2**63 and inside and ids == sorted(set(ids))):
        raise ValueError
    return text


def _end(snapshot: str) -> int:
    return int(snapshot.split(":")[1])


@dataclass(frozen=True, slots=True)
class Changes:
    """What one look at the feed found; ``cursor`` is the place behind it."""

    frames: list[dict[str, Any]]
    cursor: Cursor
    full: bool


def present() -> Cursor:
    """Return the place of now: behind everything that is committed. Synchronous."""
    return Cursor(_query("SELECT pg_current_snapshot()::text", {})[0][0])


def read_changes(tenant_id: int, cursor: Cursor, tasks: Collection[str]) -> Changes:
    """Return the next state changes after ``cursor``, then the progress of ``tasks``. Synchronous."""
    until = cursor.until or present().seen
    rows = _query(
        CHANGES,
        {
            "tenant": tenant_id,
            "seen": cursor.seen,
            "now": until,
            "task": cursor.task,
            "seq": cursor.seq,
            "limit": limits.PAGE,
        },
    )
    full = len(rows) == limits.PAGE
    frames = []
    for row in rows:
        place = Cursor(cursor.seen, until, row[0], row[1])
        frames.append(_frame(place, *row))
    if full:
        return Changes(frames, place, full=True)
    done = Cursor(until)
    if frames:
        frames[-1]["cursor"] = done.text()
    if tasks:
        moved = _query(PROGRESS, {"tenant": tenant_id, "tasks": [uuid.UUID(t) for t in tasks]})
        frames += [_frame(done, *row) for row in moved]
    return Changes(frames, done, full=False)


def _query(statement: str, values: dict[str, Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return list(cursor.fetchall())


def _frame(
    cursor: Cursor, task_id: uuid.UUID, seq: int, at: Any, kind: str, run: int | None, data: str
) -> dict[str, Any]:
    return {
        "cursor": cursor.text(),
        "task": str(task_id),
        "seq": seq,
        "at": rfc3339(at),
        "kind": kind,
        "run": run,
        "data": json.loads(data),
    }
