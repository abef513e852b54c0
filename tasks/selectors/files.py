"""Reading which files a task has."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from django.db.models import QuerySet

from rest.errors import NotFound
from tasks.models import Task, TaskFile
from tasks.models.files import ARTIFACT, INPUT


def artifacts_of(task: Task) -> QuerySet[TaskFile]:
    """Return what the task's runs have left, newest first."""
    found = TaskFile.objects.filter(task=task, kind=ARTIFACT)
    return found.select_related("task__tenant").order_by("-id")


def artifact_of(task: Task, artifact_id: uuid.UUID) -> TaskFile:
    """Return one artifact of a task.

    Raises:
        NotFound: it has none of this id.
    """
    found = artifacts_of(task).filter(pk=artifact_id).first()
    if found is None:
        raise NotFound()
    return found


def inputs_of(task_id: uuid.UUID) -> QuerySet[TaskFile]:
    """Return the inputs that have been uploaded completely, by name."""
    return TaskFile.objects.filter(task_id=task_id, kind=INPUT).order_by("name")


def missing_inputs(task: Task) -> list[str]:
    """Return the declared inputs of a task that are not there, in the order of their declaration."""
    return missing_inputs_of_many([task])[task.pk]


def missing_inputs_of_many(tasks: Sequence[Task]) -> dict[uuid.UUID, list[str]]:
    """Return the same for many tasks, by id, with one query."""
    ids = [task.pk for task in tasks]
    there = set(
        TaskFile.objects.filter(task_id__in=ids, kind=INPUT).values_list("task_id", "name")
        if ids
        else ()
    )
    return {task.pk: [name for name in task.inputs if (task.pk, name) not in there] for task in tasks}
