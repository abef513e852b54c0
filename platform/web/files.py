"""The files of a task as its page lists them."""

from __future__ import annotations

from dataclasses import dataclass

from rest.text import visible_text
from tasks.models import Task, TaskFile
from tasks.selectors.files import artifacts_of, inputs_of

MOST = 200
"""The page lists as many artifacts; the API has all."""


@dataclass(frozen=True)
class Input:
    """A declared input; ``file`` is None until it is uploaded, and after it was removed."""

    name: str
    file: TaskFile | None


@dataclass(frozen=True)
class Files:
    """``more`` says that there are older artifacts than those listed."""

    inputs: list[Input]
    artifacts: list[TaskFile]
    more: bool


def files_of(task: Task) -> Files:
    """Return what was uploaded for a task and what its runs have left, newest first."""
    stored = {file.name: file for file in inputs_of(task.pk)} if task.inputs else {}
    left = list(artifacts_of(task)[: MOST + 1])
    for file in left:
        # The handler chose it: nothing in it may reorder or hide what stands beside it.
        file.name = visible_text(file.name)
    inputs = [Input(name, stored.get(name)) for name in task.inputs]
    return Files(inputs, left[:MOST], len(left) > MOST)
