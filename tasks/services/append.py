"""Storing what a run says: progress, log lines, checkpoints; numbered, fenced, in one statement."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rest.statements import Statement, ask
from rest.ties import again_on_ties
from tasks.announce import announce
from tasks.errors import Fenced

# One statement, and so one transaction and one round trip. The task's row gives the numbers and is the
# fence at once: an attempt that is not the newest, or no longer runs, finds no row here, so nothing of
# it is stored.
APPEND = Statement("""
WITH numbered AS (
  UPDATE task
     SET last_seq = last_seq + %(count)s,
         progress_percent = coalesce(%(percent)s, progress_percent),
         progress_step = coalesce(%(step)s, progress_step),
         checkpoint = coalesce(%(checkpoint)s::jsonb, checkpoint)
   WHERE id = %(task)s AND epoch = %(epoch)s AND status = 'running'
  RETURNING id, epoch, last_seq, last_seq - %(count)s AS before, tenant_id, attempt
), counted AS (
  UPDATE run r
     SET log_bytes = r.log_bytes + %(bytes)s, log_lines = r.log_lines + %(lines)s
    FROM numbered
   WHERE r.task_id = numbered.id AND r.epoch = numbered.epoch AND %(lines)s > 0
), said AS (
  SELECT * FROM json_to_recordset(%(said)s)
    AS x(place int, at timestamptz, kind text, data jsonb, stream text, first_line bigint,
         lines text[], offsets int[])
), events AS (
  INSERT INTO event (task_id, seq, tenant_id, at, kind, run, data)
  SELECT n.id, n.before + s.place, n.tenant_id, s.at, s.kind, n.attempt, s.data
    FROM numbered n, said s WHERE s.kind IS NOT NULL
), chunks AS (
  INSERT INTO log_chunk (task_id, seq, run, at, stream, first_line, lines, offsets)
  SELECT n.id, n.before + s.place, n.attempt, s.at, s.stream, s.first_line, s.lines, s.offsets
    FROM numbered n, said s WHERE s.kind IS NULL
)
SELECT json_build_array(last_seq, tenant_id) FROM numbered
""")

STORED = Statement("""
SELECT json_build_array(run.log_lines, task.last_seq)
  FROM task JOIN run ON run.task_id = task.id AND run.epoch = task.epoch
 WHERE task.id = %(task)s AND task.epoch = %(epoch)s AND task.status = 'running'
""")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the run is: ``percent`` from 0 to 100, ``step`` in words."""

    at: datetime
    percent: float
    step: str


@dataclass(frozen=True, slots=True)
class Lines:
    """Consecutive lines of one stream; ``offsets`` are milliseconds after ``at``, one per line."""

    at: datetime
    stream: str
    first_line: int
    lines: tuple[str, ...]
    offsets: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a later attempt may go on from; only the newest one is kept."""

    at: datetime
    data: Any


Said = Progress | Lines | Checkpoint


@again_on_ties
def append(task_id: uuid.UUID, epoch: int, said: Sequence[Said], *, again: bool = False) -> int:
    """Store what the newest run said, in order, and return the number of the last event.

    ``again`` is for whoever did not hear what became of an earlier try: lines that are stored
    already are left out (progress that is told twice says nothing new).

    Raises:
        Fenced: the attempt is no longer the newest, or its task does not run any more.
    """
    if again:
        said, last_seq = _not_stored(task_id, epoch, said)
        if not said:
            return last_seq
    progress = next((item for item in reversed(said) if isinstance(item, Progress)), None)
    checkpoint = next((item for item in reversed(said) if isinstance(item, Checkpoint)), None)
    lines = [line for item in said if isinstance(item, Lines) for line in item.lines]
    values = {
        "task": task_id,
        "epoch": epoch,
        "count": len(said),
        "percent": progress.percent if progress else None,
        "step": storable_text(progress.step) if progress else None,
        "checkpoint": storable_json(checkpoint.data) if checkpoint else None,
        "lines": len(lines),
        "bytes": sum(len(line.encode("utf-8", "replace")) + 1 for line in lines),
        "said": json.dumps(
            [_row(place, item) for place, item in enumerate(said, start=1)], ensure_ascii=False
        ),
    }
    (answer,) = ask(APPEND.of(values))
    if answer is None:
        raise Fenced
    last, tenant_id = answer
    announce(task_id, tenant_id, last)
    return int(last)


def _row(place: int, item: Said) -> dict[str, Any]:
    """Return one thing that was said as :data:`APPEND` reads it."""
    row: dict[str, Any] = {"place": place, "at": item.at.isoformat()}
    if isinstance(item, Progress):
        data = {"percent": item.percent, "step": storable_text(item.step)}
        return {**row, "kind": "progress", "data": data}
    if isinstance(item, Checkpoint):
        return {**row, "kind": "note", "data": {"checkpoint": True}}
    return {
        **row,
        "stream": item.stream,
        "first_line": item.first_line,
        "lines": [storable_text(line) for line in item.lines],
        "offsets": item.offsets,
    }


def _not_stored(task_id: uuid.UUID, epoch: int, said: Sequence[Said]) -> tuple[Sequence[Said], int]:
    """Return what of ``said`` is not stored, and the task's newest number; only this run writes it."""
    (answer,) = ask(STORED.of({"task": task_id, "epoch": epoch}))
    if answer is None:
        raise Fenced
    lines, last_seq = answer
    fresh = [
        item
        for item in said
        if not isinstance(item, Lines) or item.first_line + len(item.lines) - 1 > lines
    ]
    return fresh, int(last_seq)


def storable_text(text: str) -> str:
    """Return text that PostgreSQL takes: NUL and lone surrogates become the replacement mark."""
    if text.isascii() and "\x00" not in text:
        return text
    return text.replace("\x00", "�").encode("utf-8", "replace").decode("utf-8")


def storable_json(data: Any) -> str:
    """Return ``data`` as JSON that PostgreSQL's jsonb takes."""
    return json.dumps(_clean(data), allow_nan=False)


def _clean(data: Any) -> Any:
    if isinstance(data, str):
        return storable_text(data)
    if isinstance(data, dict):
        return {storable_text(str(key)): _clean(value) for key, value in data.items()}
    if isinstance(data, list):
        return [_clean(value) for value in data]
    return data
