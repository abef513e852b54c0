"""What is sent again because the answer to a COMMIT was lost is stored once."""

from __future__ import annotations

import pytest

from tasks.errors import Fenced
from tasks.models import Event, LogChunk, Task
from tasks.outcomes import Outcome
from tasks.services.append import Progress, append
from tasks.services.finish import finish
from tasks.states import RunStatus
from tenants.models import Tenant
from tests.tasks.api.work import lines, running, submitted


def test_lines_that_are_told_again_are_stored_once(tenant: Tenant) -> None:
    task = submitted(tenant)
    claimed = running(task)
    said = [lines(claimed.started_at, "one", "two"), Progress(claimed.started_at, 50, "half")]
    append(task.pk, claimed.epoch, said)
    more = lines(claimed.started_at, "three", first=3)
    last = append(task.pk, claimed.epoch, [*said, more], again=True)
    stored = [
        line
        for chunk in LogChunk.objects.filter(task_id=task.pk).order_by("seq")
        for line in chunk.lines
    ]
    assert stored == ["one", "two", "three"]
    assert append(task.pk, claimed.epoch, [said[0], more], again=True) == last
    with pytest.raises(Fenced):
        append(task.pk, claimed.epoch + 1, said, again=True)
    # Also where nothing of it would be new: what is stored already is somebody else's.
    with pytest.raises(Fenced):
        append(task.pk, claimed.epoch + 1, [said[0], more], again=True)


def test_an_end_that_is_told_again_is_refused_without_a_word(tenant: Tenant) -> None:
    task = submitted(tenant)
    claimed = running(task)
    outcome = Outcome(RunStatus.COMPLETED, result={"answer": 42})
    finish(task.pk, claimed.epoch, outcome)
    ended = Task.objects.get(pk=task.pk)
    with pytest.raises(Fenced):
        finish(task.pk, claimed.epoch, outcome)
    again = Task.objects.get(pk=task.pk)
    assert (again.last_seq, again.finished_at) == (ended.last_seq, ended.finished_at)
    assert not Event.objects.filter(task_id=task.pk, kind="error").exists()
