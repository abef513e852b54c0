"""Storing what a run says: progress, log lines, checkpoints; numbered, fenced, in one transaction."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection, transaction

from rest.ties import again_on_ties
from tasks.announce import announce
from tasks.errors import Fenced

# The task's row gives the numbers and is the fence at once: an attempt that is not the newest, or
# no longer runs, finds no row here, so nothing of it is stored.
TAKE_NUMBERS = """
WITH numbered AS (
  UPDATE task
     SET last_seq = last_seq + %(count)s,
         progress_percent = coalesce(%(percent)s, progress_percent),
         progress_step = coalesce(%(step)s, progress_step),
         checkpoint = coalesce(%(checkpoint)s::jsonb, checkpoint)
   WHERE id = %(task)s AND epoch = %(epoch)s AND status = 'running'
  RETURNING id, epoch, last_seq, tenant_id, attempt
), counted AS (
  UPDATE run r
     SET log_bytes = r.log_bytes + %(bytes)s, log_lines = r.log_lines + %(lines)s
    FROM numbered
   WHERE r.task_id = numbered.id AND r.epoch = numbered.epoch AND %(lines)s > 0
)
SELECT last_seq, tenant_id, attempt FROM numbered
"""

ADD_EVENTS = """
INSERT INTO event (task_id, seq, tenant_id, at, kind, run, data)
SELECT %(task)s, e.seq, %(tenant)s, e.at, e.kind, %(run)s, e.data::jsonb
  FROM unnest(%(seq)s::bigint[], %(at)s::timestamptz[], %(kind)s::text[], %(data)s::text[])
    AS e(seq, at, kind, data)
"""

ADD_CHUNK = """
INSERT INTO log_chunk (task_id, seq, run, at, stream, first_line, lines, offsets)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
"""


STORED = """
SELECT run.log_lines, task.last_seq
  FROM task JOIN run ON run.task_id = task.id AND run.epoch = task.epoch
 WHERE task.id = %s AND task.epoch = %s AND task.status = 'running'
"""


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
    chunks = [item for item in said if isinstance(item, Lines)]
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            TAKE_NUMBERS,
            {
                "count": len(said),
                "percent": progress.percent if progress else None,
                "step": progress.step if progress else None,
                "checkpoint": storable_json(checkpoint.data) if checkpoint else None,
                "lines": sum(len(chunk.lines) for chunk in chunks),
                "bytes": sum(
                    len(line.encode("utf-8", "replace")) + 1 for chunk in chunks for line in chunk.lines
                ),
                "task": task_id,
                "epoch": epoch,
            },
        )
        row = cursor.fetchone()
        if row is None:
            raise Fenced
        last, tenant_id, run = row
        numbered = list(enumerate(said, start=last - len(said) + 1))
        _add_events(cursor, task_id, tenant_id, run, numbered)
        for seq, item in numbered:
            if isinstance(item, Lines):
                cursor.execute(
                    ADD_CHUNK,
                    [
                        task_id,
                        seq,
                        run,
                        item.at,
                        item.stream,
                        item.first_line,
                        [storable_text(line) for line in item.lines],
                        list(item.offsets),
                    ],
                )
    announce(task_id, tenant_id, last)
    return int(last)


def _not_stored(task_id: uuid.UUID, epoch: int, said: Sequence[Said]) -> tuple[Sequence[Said], int]:
    """Return what of ``said`` is not stored, and the task's newest number; only this run writes it."""
    with connection.cursor() as cursor:
        cursor.execute(STORED, [task_id, epoch])
        row = cursor.fetchone()
    if row is None:
        raise Fenced
    lines, last_seq = row
    fresh = [
        item
        for item in said
        if not isinstance(item, Lines) or item.first_line + len(item.lines) - 1 > lines
    ]
    return fresh, int(last_seq)


def _add_events(
    cursor: Any,
    task_id: uuid.UUID,
    tenant_id: int,
    run: int,
    numbered: list[tuple[int, Said]],
) -> None:
    events = []
    for seq, item in numbered:
        if isinstance(item, Progress):
            data: dict[str, Any] = {"percent": item.percent, "step": storable_text(item.step)}
            events.append((seq, item.at, "progress", json.dumps(data)))
        elif isinstance(item, Checkpoint):
            events.append((seq, item.at, "note", json.dumps({"checkpoint": True})))
    if not events:
        return
    seqs, ats, kinds, datas = zip(*events, strict=True)
    cursor.execute(
        ADD_EVENTS,
        {
            "task": task_id,
            "tenant": tenant_id,
            "run": run,
            "seq": list(seqs),
            "at": list(ats),
            "kind": list(kinds),
            "data": list(datas),
        },
    )


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
