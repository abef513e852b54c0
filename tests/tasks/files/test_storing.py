"""Content before its row: what is stored, what is never named, and what goes when."""

from __future__ import annotations

import io
import uuid
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection
from django.db.models.functions import Now

from tasks.content import TooMuch, open_content
from tasks.errors import Fenced, InputsClosed, InputsLost, InputsMissing, QueuedLimit, UploadExpired
from tasks.models import Event, FileRemoval, Inflight, Later, Task, TaskFile
from tasks.outcomes import Outcome
from tasks.services.cancel import cancel
from tasks.services.files import (
    Artifact,
    Content,
    artifacts_record,
    discard,
    fill,
    remove_unnamed,
    reserve,
)
from tasks.services.finish import finish
from tasks.services.inputs import input_store, inputs_submit
from tasks.services.lose import Expired, lose
from tasks.services.release import due
from tasks.services.retry import retry
from tasks.states import RunStatus
from tenants.models import Limit, Tenant
from tests.tasks.api.work import failed, running, submitted
from tests.tasks.files.conftest import contents


def content(data: bytes = b"some bytes") -> Content:
    [key] = reserve()
    return fill(key, io.BytesIO(data).read, cap=1000)


def upload(task: Task, name: str, data: bytes = b"some bytes") -> TaskFile:
    stored, _ = input_store(task.pk, name, content(data), media_type="text/plain", by="user:alice")
    return stored


def fresh(task: Task) -> Task:
    return Task.objects.get(pk=task.pk)


def test_content_without_a_row_goes_when_its_time_has_come(tenant: Tenant, stored: Path) -> None:
    left = content()
    assert remove_unnamed() == 0
    assert contents(stored) == 1
    discard(left.key)
    assert remove_unnamed() == 1
    assert contents(stored) == 0
    assert not FileRemoval.objects.exists()


def test_content_that_has_a_row_stays(tenant: Tenant, stored: Path) -> None:
    task = submitted(tenant, inputs=("data.csv",))
    file = upload(task, "data.csv")
    FileRemoval.objects.update(due_at=Now())
    assert remove_unnamed() == 0
    assert open_content(file.storage_key).read() == b"some bytes"
    assert (file.size, len(file.sha256)) == (10, 64)


def test_content_that_was_given_up_gets_no_row(tenant: Tenant) -> None:
    task = submitted(tenant, inputs=("data.csv",))
    late = content()
    discard(late.key)
    remove_unnamed()
    with pytest.raises(UploadExpired):
        input_store(task.pk, "data.csv", late, media_type="text/plain", by="user:alice")
    assert not TaskFile.objects.exists()


def test_a_source_that_gives_too_much_or_breaks_leaves_no_row(tenant: Tenant, stored: Path) -> None:
    [key] = reserve()
    with pytest.raises(TooMuch):
        fill(key, io.BytesIO(b"x" * 1001).read, cap=1000)
    discard(key)
    remove_unnamed()
    assert contents(stored) == 0


def test_names_in_storage_say_nothing_of_the_users(tenant: Tenant, stored: Path) -> None:
    upload(submitted(tenant, inputs=("secret-project.csv",)), "secret-project.csv")
    [path] = (path for path in stored.rglob("*") if path.is_file())
    assert path.parent.name == path.name[:2]
    assert uuid.UUID(path.name)


def test_a_new_upload_takes_the_place_of_the_old_one(tenant: Tenant, stored: Path) -> None:
    task = submitted(tenant, inputs=("data.csv",))
    upload(task, "data.csv", b"old")
    upload(task, "data.csv", b"newer")
    assert TaskFile.objects.get().size == 5
    assert remove_unnamed() == 1
    assert contents(stored) == 1


def test_a_task_is_let_go_only_with_all_its_inputs(tenant: Tenant) -> None:
    task = submitted(tenant, inputs=("a", "b"))
    upload(task, "b")
    with pytest.raises(InputsMissing, match=r"missing: a\."):
        inputs_submit(task.pk, by="user:alice")
    upload(task, "a")
    assert inputs_submit(task.pk, by="user:alice").status == "queued"
    with pytest.raises(InputsClosed):
        inputs_submit(task.pk, by="user:alice")
    with pytest.raises(InputsClosed):
        upload(task, "a")


def test_letting_go_places_a_task_as_its_submit_would_have(tenant: Tenant) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT now() + interval '1 hour'")
        [soon] = cursor.fetchone()
    parent = submitted(tenant)
    for options, expected in (
        ({"scheduled_for": soon}, "scheduled"),
        ({"depends_on": (parent.pk,)}, "blocked"),
        ({}, "queued"),
    ):
        task = submitted(tenant, inputs=("a",), **options)
        upload(task, "a")
        assert inputs_submit(task.pk, by="user:alice").status == expected
        waits = set(Later.objects.filter(task_id=task.pk).values_list("what", flat=True))
        assert waits == ({"start"} if expected == "scheduled" else set())


def test_a_task_that_is_let_go_must_fit_its_line(tenant: Tenant) -> None:
    Limit.objects.create(tenant=tenant, queue="normal", queued=1)
    task = submitted(tenant, inputs=("a",))
    submitted(tenant)
    upload(task, "a")
    with pytest.raises(QueuedLimit):
        inputs_submit(task.pk, by="user:alice")
    assert fresh(task).status == "allocated"


def test_the_queue_timeout_counts_from_letting_go(tenant: Tenant) -> None:
    task = submitted(tenant, inputs=("a",), queue_timeout=60)
    upload_until = task.deadline_at
    assert upload_until is not None
    upload(task, "a")
    gone = inputs_submit(task.pk, by="user:alice")
    assert gone.deadline_at is not None
    assert gone.deadline_at < upload_until
    Later.objects.filter(task_id=task.pk, what="queue_timeout").update(due_at=Now())
    assert due(task.pk, "queue_timeout")
    assert fresh(task).status_reason == "queue_timeout"


def test_a_task_whose_inputs_do_not_come_is_dropped_with_what_had_come(
    tenant: Tenant, stored: Path
) -> None:
    task = submitted(tenant, inputs=("a", "b"))
    upload(task, "a")
    Later.objects.update(due_at=Now() - timedelta(seconds=1))
    assert due(task.pk, "upload")
    assert (fresh(task).status, fresh(task).status_reason) == ("dropped", "upload_timeout")
    assert not TaskFile.objects.exists()
    remove_unnamed()
    assert contents(stored) == 0


def test_a_task_cancelled_before_it_was_let_go_leaves_no_data(tenant: Tenant, stored: Path) -> None:
    task = submitted(tenant, inputs=("a",))
    upload(task, "a")
    cancel(task.pk, by="user:alice")
    remove_unnamed()
    assert contents(stored) == 0
    with pytest.raises(InputsLost):
        retry(task.pk, by="user:alice")


def test_a_task_cancelled_later_keeps_its_inputs_for_a_retry(tenant: Tenant) -> None:
    task = submitted(tenant, inputs=("a",))
    upload(task, "a")
    inputs_submit(task.pk, by="user:alice")
    cancel(task.pk, by="user:alice")
    assert TaskFile.objects.count() == 1
    assert retry(task.pk, by="user:alice").status == "queued"


def test_a_child_that_lost_its_inputs_is_not_revived_with_its_parent(tenant: Tenant) -> None:
    parent = submitted(tenant)
    child = submitted(tenant, inputs=("a",), depends_on=(parent.pk,))
    failed(parent)
    assert fresh(child).status == "cancelled"
    retry(parent.pk, by="user:alice")
    assert fresh(child).status == "cancelled"


def test_each_upload_is_an_event(tenant: Tenant) -> None:
    task = submitted(tenant, inputs=("a",))
    file = upload(task, "a")
    told = Event.objects.filter(task_id=task.pk, kind="note").get().data
    assert (told["input"], told["size"], told["sha256"]) == ("a", 10, file.sha256)


def test_only_the_newest_attempt_leaves_artifacts(tenant: Tenant, stored: Path) -> None:
    task = submitted(tenant)
    first = running(task)
    Inflight.objects.update(lease_until=Now() - timedelta(seconds=1))
    lose(Expired(task.pk, first.epoch))
    second = running(fresh(task))
    zombie = [Artifact("report", "text/plain", content(b"late"))]
    with pytest.raises(Fenced):
        artifacts_record(task.pk, first.epoch, zombie)
    artifacts_record(task.pk, second.epoch, [Artifact("report", "text/plain", content(b"right"))])
    assert TaskFile.objects.get().run == 2
    finish(task.pk, second.epoch, Outcome(RunStatus.COMPLETED))
    with pytest.raises(Fenced):
        artifacts_record(task.pk, second.epoch, zombie)


def test_files_go_with_their_task_whoever_deletes_it(tenant: Tenant, stored: Path) -> None:
    task = submitted(tenant, inputs=("a",))
    upload(task, "a")
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM later")
        cursor.execute("DELETE FROM task WHERE id = %s", [task.pk])
    assert not TaskFile.objects.exists()
    assert remove_unnamed() == 1
    assert contents(stored) == 0
