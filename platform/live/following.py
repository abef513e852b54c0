"""Following a task, or a tenant's feed: in order, none twice, none missing.

The numbers of a task's events are given under its row lock, so they become visible in order: what is
read after a number never has a gap that is filled later. Announcements only say when to read.
The next page is read when the caller asks for it: a slow reader slows its own reading and nothing
else, and nothing piles up.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

from live import limits
from live.closing import closing, watch_for_the_end
from live.database import in_database
from live.feed import Cursor, read_changes
from live.hub import hub
from tasks.announce import task_group, tenant_group
from tasks.models import Task
from tasks.selectors.history import events_after
from tasks.states import is_terminal

SHOWN_AT_MOST = 10_000


class TaskGone(Exception):
    """The task was deleted while it was followed."""


@dataclass(frozen=True, slots=True)
class Page:
    """What one look found: events in order, the number reached, and whether that is the end."""

    events: list[dict[str, Any]]
    seq: int
    status: str
    ended: bool
    full: bool


def read_page(task_id: uuid.UUID, after: int) -> Page:
    """Read the next events of a task. Synchronous.

    Raises:
        TaskGone
    """
    # The task first: what is appended between the two statements is read too, and then the number
    # reached is beyond the one at which the task was seen to be terminal.
    row = Task.objects.filter(pk=task_id).values_list("status", "last_seq").first()
    if row is None:
        raise TaskGone
    status, last_seq = row
    events = events_after(task_id, after, limit=limits.PAGE) if last_seq > after else []
    full = len(events) >= limits.PAGE
    seq = int(events[-1]["seq"]) if events else after
    if not full:
        # What is not there up to this number never will be: its month is no longer kept.
        seq = max(seq, last_seq)
    return Page(
        events=events,
        seq=seq,
        status=str(status),
        ended=is_terminal(status) and seq == last_seq,
        full=full,
    )


async def follow(task_id: uuid.UUID, after: int) -> AsyncGenerator[Page, None]:
    """Yield pages of events after number ``after``, until the task has ended or the process ends.

    Empty pages come in between, at least every ``limits.POLL`` seconds, so that the caller can look
    after its connection.

    Raises:
        TaskGone
    """
    watch_for_the_end()
    with hub().watch(task_group(task_id)) as bell:
        while True:
            bell.take()
            page = await _shared_page(task_id, after, bell.rings)
            after = page.seq
            yield page
            if page.ended or closing():
                return
            if page.full:
                continue
            await bell.wait()


async def until_ended(task_id: uuid.UUID) -> None:
    """Return when the task is terminal or gone, or when the process ends."""
    watch_for_the_end()
    with hub().watch(task_group(task_id)) as bell:
        while True:
            bell.take()
            if not await _is_open(task_id) or closing():
                return
            await bell.wait()


def is_open(task_id: uuid.UUID) -> bool:
    """Tell whether the task exists and has not ended. Synchronous."""
    return Task.objects.filter(pk=task_id, finished_at__isnull=True).exists()


async def follow_feed(tenant_id: int, cursor: Cursor) -> AsyncGenerator[list[dict[str, Any]], None]:
    """Yield the frames of a tenant's feed after ``cursor``, until the process ends.

    Empty lists come in between, as empty pages do in :func:`follow`.
    """
    watch_for_the_end()
    shown: dict[str, int] = {}
    waiting: set[str] = set()
    with hub().watch(tenant_group(tenant_id)) as bell:
        while True:
            waiting |= bell.take()
            changes = await _read_changes(tenant_id, cursor, waiting)
            cursor = changes.cursor
            yield [frame for frame in changes.frames if _fresh(frame, shown)]
            if closing():
                return
            if changes.full:
                continue
            waiting.clear()
            await bell.wait()


def _fresh(frame: dict[str, Any], shown: dict[str, int]) -> bool:
    """Tell whether a frame's progress was not shown yet; each ring brings the newest one again."""
    if frame["kind"] != "progress":
        return True
    if len(shown) > SHOWN_AT_MOST:
        shown.clear()
    fresh = int(frame["seq"]) > shown.get(frame["task"], 0)
    shown[frame["task"]] = int(frame["seq"])
    return fresh


_reading: dict[tuple[uuid.UUID, int, int], asyncio.Future[Page]] = {}
_read_page = in_database(read_page)
_read_changes = in_database(read_changes)
_is_open = in_database(is_open)


async def _shared_page(task_id: uuid.UUID, after: int, rings: int) -> Page:
    """Read a page, together with all who want the same one at the same time.

    Who has heard more rings needs a reading that began later; hence ``rings`` in the key.
    """
    key = (task_id, after, rings)
    reading = _reading.get(key)
    if reading is None:
        reading = asyncio.ensure_future(_read_page(task_id, after))
        _reading[key] = reading
        reading.add_done_callback(lambda _: _reading.pop(key, None))
    return await asyncio.shield(reading)
