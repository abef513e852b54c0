"""Large inputs of a task that is ``allocated``: taking them in, and letting the task go."""

from __future__ import annotations

import uuid

from django.db import transaction

from tasks.errors import InputsClosed, InputsMissing, TaskFinished, UnknownInput
from tasks.models import Task, TaskFile
from tasks.models.files import INPUT
from tasks.selectors.files import missing_inputs
from tasks.services.admission import check_lines
from tasks.services.files import Content, name_content
from tasks.services.ready import one_change
from tasks.services.release import let_go
from tasks.services.transitions import lock_task, note
from tasks.states import Status


def check_open(task: Task, name: str) -> None:
    """Check that a task takes an input of this name now.

    Raises:
        UnknownInput: its submit did not declare it.
        InputsClosed, TaskFinished: it was let go, or has ended.
    """
    if name not in task.inputs:
        raise UnknownInput(name, task.inputs)
    _check_allocated(task)


def input_store(
    task_id: uuid.UUID, name: str, content: Content, *, media_type: str, by: str
) -> tuple[TaskFile, bool]:
    """Make stored content an input of the task, in place of an earlier one of that name.

    Returns the file, and whether there was none before.

    Raises:
        UnknownInput, InputsClosed, TaskFinished, UploadExpired: nothing has changed.
    """
    with transaction.atomic():
        task = lock_task(task_id)
        check_open(task, name)
        name_content([content.key])
        replaced, _ = TaskFile.objects.filter(task=task, kind=INPUT, name=name).delete()
        stored = TaskFile.objects.create(
            task=task,
            kind=INPUT,
            name=name,
            size=content.size,
            sha256=content.sha256,
            media_type=media_type,
            storage_key=content.key,
        )
        note(task, "note", {"input": name, "size": content.size, "sha256": content.sha256, "by": by})
    stored.refresh_from_db(fields=["created_at"])
    return stored, not replaced


def inputs_submit(task_id: uuid.UUID, *, by: str) -> Task:
    """Let a task go whose inputs are all there: as a submit without inputs would have placed it.

    Raises:
        InputsMissing: naming those that are missing.
        InputsClosed, TaskFinished: it was let go before, or has ended.
        QueuedLimit: it would enter a line that is full.
    """
    with one_change():
        task = lock_task(task_id)
        _check_allocated(task)
        missing = missing_inputs(task)
        if missing:
            raise InputsMissing(missing)
        let_go(task, facts={"by": by})
        check_lines([task])
    task.refresh_from_db()
    return task


def _check_allocated(task: Task) -> None:
    if task.finished_at is not None:
        raise TaskFinished(task.status)
    if task.status != Status.ALLOCATED:
        raise InputsClosed(task.status)
