"""Storing files: content first, the row after it, and removal of what no row names.

1. :func:`reserve` writes down, and commits, the names that are about to be written.
2. :func:`fill` writes the content.
3. :func:`name_content` takes the note away in the transaction that makes the file's row.

Whatever dies in between leaves the note, and :func:`remove_unnamed` finds it. A row that is deleted
writes its note by itself (a trigger), so nobody else ever removes content.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import structlog
from django.db import transaction
from django.db.models.functions import Now

from tasks import content
from tasks.clock import database_now
from tasks.content import Incoming, Read
from tasks.errors import Fenced, UploadExpired
from tasks.models import FileRemoval, Task, TaskFile
from tasks.models.files import ARTIFACT
from tasks.states import Status

PATIENCE = timedelta(days=1)
"""Content that has no row after this long never gets one."""

AGAIN = timedelta(minutes=10)
"""After which a removal that failed is tried again."""

REMOVED_AT_ONCE = 200

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Content:
    """Complete bytes in storage that no row names yet."""

    key: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Artifact:
    """A stored file that a run has left."""

    name: str
    media_type: str
    content: Content


def reserve(count: int = 1) -> list[str]:
    """Return names for new content; to be called outside of a transaction."""
    keys = [content.new_key() for _ in range(count)]
    due_at = database_now() + PATIENCE
    FileRemoval.objects.bulk_create(FileRemoval(storage_key=key, due_at=due_at) for key in keys)
    return keys


def fill(key: str, read: Read, *, cap: int) -> Content:
    """Write content of at most ``cap`` bytes under a reserved name; no database is needed.

    Raises:
        TooMuch, OSError, whatever ``read`` raises: call :func:`discard` then.
    """
    incoming = Incoming(read, cap)
    content.write(key, incoming)
    return Content(key, incoming.size, incoming.sha256)


def discard(*keys: str) -> None:
    """Give up content that will not get a row."""
    FileRemoval.objects.filter(storage_key__in=keys).update(due_at=Now())


def name_content(keys: Sequence[str]) -> None:
    """Claim content for rows that this transaction makes.

    Raises:
        UploadExpired: some of it was given up in the meantime, and is gone.
    """
    claimed, _ = FileRemoval.objects.filter(storage_key__in=keys).delete()
    if claimed != len(keys):
        raise UploadExpired


def artifacts_record(task_id: uuid.UUID, epoch: int, artifacts: Sequence[Artifact]) -> None:
    """Make the rows of what the newest run has left, once however often it is asked.

    Raises:
        Fenced: another attempt has taken over; nothing is stored.
        UploadExpired: some of it was given up in the meantime; nothing is stored.
    """
    with transaction.atomic():
        newest = Task.objects.select_for_update(no_key=True).filter(
            pk=task_id, epoch=epoch, status=Status.RUNNING.value
        )
        task = newest.first()
        if task is None:
            raise Fenced
        keys = [artifact.content.key for artifact in artifacts]
        if TaskFile.objects.filter(task=task, storage_key__in=keys).exists():
            return  # the answer to the COMMIT of an earlier try was lost
        name_content(keys)
        TaskFile.objects.bulk_create(
            TaskFile(
                task=task,
                kind=ARTIFACT,
                run=task.attempt,
                name=artifact.name,
                size=artifact.content.size,
                sha256=artifact.content.sha256,
                media_type=artifact.media_type,
                storage_key=artifact.content.key,
            )
            for artifact in artifacts
        )


def remove_unnamed(limit: int = REMOVED_AT_ONCE) -> int:
    """Remove content whose time has come; return how much was removed.

    Notes stay locked meanwhile, so nobody can name content that is being removed.
    """
    removed = []
    with transaction.atomic():
        due = FileRemoval.objects.select_for_update(skip_locked=True).filter(due_at__lte=Now())
        for note in due.order_by("due_at")[:limit]:
            try:
                content.remove(note.storage_key)
            except Exception as error:  # any storage's own errors: one bad file holds up no other
                log.warning("content_not_removed", key=note.storage_key, error=str(error))
                note.due_at = database_now() + AGAIN
                note.save(update_fields=["due_at"])
            else:
                removed.append(note.storage_key)
        FileRemoval.objects.filter(storage_key__in=removed).delete()
    return len(removed)
