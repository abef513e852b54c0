"""The verbs of the system on a real database: what they do, and what they leave alone."""

from __future__ import annotations

import threading
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from tasks.errors import Fenced, KeyConflict, NotRetryable, QueuedLimit, SubmitRate, TaskFinished
from tasks.models import Backlog, Event, Inflight, Later, LogChunk, Ready, Run, Task
from tasks.outcomes import Outcome
from tasks.services.append import Checkpoint, Progress, append
from tasks.services.cancel import cancel
from tasks.services.claim import asked, claim, renew
from tasks.services.finish import finish
from tasks.services.lose import Expired, expired_runs, lose
from tasks.services.ready import recount_backlog
from tasks.services.release import due
from tasks.services.retry import retry
from tasks.states import RunStatus, Status
from tenants.models import Limit, Tenant
from tests.tasks.api.work import TOKEN, WORKER, dispatched, ended, failed, lines, running, submitted

WHO: dict[str, Any] = {
    "worker": WORKER,
    "machine": "m1",
    "isolation": "process",
    "pid": 1,
}


def fresh(task: Task) -> Task:
    return Task.objects.get(pk=task.pk)


def test_a_task_is_not_queued_before_it_is_created(tenant: Tenant) -> None:
    task = submitted(tenant)
    assert fresh(task).queued_at == fresh(task).created_at == task.created_at


# -- claim and fence ---------------------------------------------------------------------------------


def test_a_message_is_good_for_one_claim(tenant: Tenant) -> None:
    task = submitted(tenant)
    row = dispatched(task)
    first = claim(task.pk, row.epoch, TOKEN, queue="normal", **WHO)
    again = [claim(task.pk, row.epoch, TOKEN, queue="normal", **WHO) for _ in range(3)]
    assert first is not None
    assert again == [None, None, None]
    assert Run.objects.filter(task=task).count() == 1


@pytest.mark.parametrize(
    ("epoch", "token", "queue"),
    [(2, TOKEN, "normal"), (0, TOKEN, "normal"), (1, "forged", "normal"), (1, TOKEN, "critical")],
)
def test_a_stale_forged_or_misrouted_message_changes_nothing(
    tenant: Tenant, epoch: int, token: str, queue: str
) -> None:
    task = submitted(tenant)
    dispatched(task)
    before = Inflight.objects.get(pk=task.pk)
    assert claim(task.pk, epoch, token, queue=queue, **WHO) is None
    assert claim(uuid.uuid4(), epoch, token, queue=queue, **WHO) is None
    assert fresh(task).status == "queued"
    # Nor is the good message given up for it: only who had that one may hand it back.
    now = Inflight.objects.get(pk=task.pk)
    assert (now.state, now.lease_until) == ("dispatched", before.lease_until)


def test_a_late_attempt_can_record_nothing_and_its_try_is_written_down(tenant: Tenant) -> None:
    task = submitted(tenant)
    old = running(task)
    Inflight.objects.filter(pk=task.pk).update(lease_until=timezone.now() - timedelta(seconds=1))
    assert lose(Expired(task.pk, old.epoch)) is Status.QUEUED
    new = running(fresh(task))
    with pytest.raises(Fenced):
        append(task.pk, old.epoch, [Progress(timezone.now(), 99, "late")])
    with pytest.raises(Fenced):
        finish(task.pk, old.epoch, Outcome(RunStatus.COMPLETED, result={"by": "zombie"}))
    assert renew(task.pk, old.epoch) is None
    assert fresh(task).status == "running"
    assert fresh(task).result is None
    refusal = Event.objects.filter(task_id=task.pk, kind="error").get()
    assert "its end" in refusal.data["refused"]
    finish(task.pk, new.epoch, Outcome(RunStatus.COMPLETED, result={"by": "heir"}))
    assert fresh(task).result == {"by": "heir"}


def test_an_attempt_that_has_ended_can_record_nothing_more(tenant: Tenant) -> None:
    task = submitted(tenant)
    claimed = running(task)
    finish(task.pk, claimed.epoch, Outcome(RunStatus.COMPLETED, result={"n": 1}))
    with pytest.raises(Fenced):
        append(task.pk, claimed.epoch, [Progress(timezone.now(), 7, "late")])
    with pytest.raises(Fenced):
        finish(task.pk, claimed.epoch, Outcome(RunStatus.FAILED, error={"code": "e", "message": "m"}))
    assert renew(task.pk, claimed.epoch) is None
    now = fresh(task)
    assert (now.status, now.result, now.progress_percent) == ("completed", {"n": 1}, 100)
    assert Run.objects.get(task=task).status == "completed"


def test_a_renewed_lease_is_not_lost(tenant: Tenant) -> None:
    task = submitted(tenant)
    claimed = running(task)
    assert expired_runs() == []
    assert renew(task.pk, claimed.epoch) == ""
    for crashed in (None, False, True):
        assert lose(Expired(task.pk, claimed.epoch), crashed=crashed) is None


def test_a_lost_task_that_is_not_idempotent_fails_with_its_reason(tenant: Tenant) -> None:
    task = submitted(tenant, idempotent=False)
    claimed = running(task)
    Inflight.objects.filter(pk=task.pk).update(lease_until=timezone.now() - timedelta(seconds=1))
    assert [each.task_id for each in expired_runs()] == [task.pk]
    lose(Expired(task.pk, claimed.epoch))
    assert (fresh(task).status, fresh(task).status_reason) == ("failed", "lost")
    assert Run.objects.get(task=task).status == "lost"


def test_a_checkpoint_is_there_for_the_next_attempt(tenant: Tenant) -> None:
    task = submitted(tenant)
    claimed = running(task, Checkpoint(timezone.now(), {"step": 3}))
    # What it says afterwards is no checkpoint, and takes none away.
    append(task.pk, claimed.epoch, [Progress(timezone.now(), 60, "on its way")])
    finish(task.pk, claimed.epoch, Outcome(RunStatus.DROPPED, checkpointed=True))
    assert running(fresh(task)).checkpoint == {"step": 3}
    assert (fresh(task).restarts, fresh(task).failures) == (1, 0)


def test_lines_belong_to_the_attempt_that_said_them(tenant: Tenant) -> None:
    task = submitted(tenant, retry={"delay": 0, "jitter": 0})
    first = running(task, lines(timezone.now(), "one", "two"))
    error = {"code": "e", "message": "m"}
    finish(task.pk, first.epoch, Outcome(RunStatus.FAILED, error=error, log_lines=2))
    due(task.pk, "retry")
    running(fresh(task), lines(timezone.now(), "three"))
    chunks = LogChunk.objects.filter(task_id=task.pk).order_by("seq")
    assert [(chunk.run, chunk.lines) for chunk in chunks] == [(1, ["one", "two"]), (2, ["three"])]
    # Nor does a later attempt change what is told of an earlier one.
    runs = Run.objects.filter(task=task).order_by("attempt")
    assert [run.log_lines for run in runs] == [2, 1]


# -- cancel ------------------------------------------------------------------------------------------


def test_a_waiting_task_is_cancelled_at_once_and_never_starts(tenant: Tenant) -> None:
    later = timezone.now() + timedelta(hours=1)
    parent = submitted(tenant)
    for options in ({}, {"scheduled_for": later}, {"depends_on": (parent.pk,)}, {"inputs": ("a",)}):
        task = submitted(tenant, **options)
        done = cancel(task.pk, by="user:bob", reason="not needed")
        assert done.changed
        assert (done.task.status, done.task.status_reason) == ("cancelled", "user_cancelled")
        assert done.task.cancel_reason == "not needed"
        assert not Ready.objects.filter(pk=task.pk).exists()
        assert not Later.objects.filter(task_id=task.pk).exists()


def test_a_published_task_that_is_cancelled_cannot_be_claimed(tenant: Tenant) -> None:
    task = submitted(tenant)
    row = dispatched(task)
    assert cancel(task.pk, by="user:bob").changed
    assert claim(task.pk, row.epoch, TOKEN, queue="normal", **WHO) is None
    assert fresh(task).started_at is None
    assert not Inflight.objects.filter(pk=task.pk).exists()


def test_only_the_first_cancel_of_a_running_task_changes_anything(tenant: Tenant) -> None:
    task = submitted(tenant)
    claimed = running(task)
    assert [cancel(task.pk, by="user:bob").changed for _ in range(3)] == [True, False, False]
    assert asked(task.pk, claimed.epoch) == "cancel"
    assert fresh(task).status == "running"
    finish(task.pk, claimed.epoch, Outcome(RunStatus.COMPLETED))
    assert fresh(task).status == "completed"
    assert fresh(task).cancel_requested_at is not None


def test_an_ended_task_cannot_be_cancelled(tenant: Tenant) -> None:
    task = ended(submitted(tenant))
    before = fresh(task).last_seq
    with pytest.raises(TaskFinished):
        cancel(task.pk, by="user:bob")
    assert fresh(task).last_seq == before


def test_a_cancelled_task_whose_worker_dies_is_cancelled(tenant: Tenant) -> None:
    task = submitted(tenant)
    claimed = running(task)
    cancel(task.pk, by="user:bob")
    Inflight.objects.filter(pk=task.pk).update(lease_until=timezone.now() - timedelta(seconds=1))
    lose(Expired(task.pk, claimed.epoch))
    assert fresh(task).status == "cancelled"


# -- retry -------------------------------------------------------------------------------------------


def test_a_failed_attempt_waits_and_comes_back(tenant: Tenant) -> None:
    task = submitted(tenant, retry={"delay": 0, "jitter": 0})
    claimed = running(task)
    finish(task.pk, claimed.epoch, Outcome(RunStatus.FAILED, error={"code": "e", "message": "m"}))
    assert fresh(task).status == "retry_wait"
    assert fresh(task).next_retry_at is not None
    assert due(task.pk, "retry")
    assert not due(task.pk, "retry")
    assert fresh(task).status == "queued"
    assert running(fresh(task)).attempt == 2


def test_an_explicit_retry_starts_a_new_life_and_keeps_the_old_runs(tenant: Tenant) -> None:
    task = failed(submitted(tenant))
    again = retry(task.pk, by="user:bob")
    assert (again.status, again.life, again.failures, again.finished_at) == ("queued", 2, 0, None)
    done = ended(again)
    assert done.status == "completed"
    assert list(Run.objects.filter(task=task).values_list("attempt", "life", "status")) == [
        (1, 1, "failed"),
        (2, 2, "completed"),
    ]
    with pytest.raises(NotRetryable):
        retry(task.pk, by="user:bob")


# -- dependencies ------------------------------------------------------------------------------------


def test_a_child_waits_for_all_its_parents(tenant: Tenant) -> None:
    one, two = submitted(tenant), submitted(tenant)
    child = submitted(tenant, depends_on=(one.pk, two.pk))
    assert child.status == "blocked"
    ended(one)
    assert fresh(child).status == "blocked"
    ended(two)
    assert fresh(child).status == "queued"


@pytest.mark.parametrize("early", [True, False], ids=["child first", "child late"])
def test_a_failure_passes_through_the_whole_graph(tenant: Tenant, early: bool) -> None:
    root = submitted(tenant)
    if not early:
        failed(root)
    child = submitted(tenant, depends_on=(root.pk,))
    grandchild = submitted(tenant, depends_on=(child.pk,))
    if early:
        failed(root)
    assert (fresh(child).status, fresh(child).status_reason) == ("cancelled", "parent_failed")
    assert fresh(grandchild).status == "cancelled"
    assert fresh(grandchild).started_at is None


def test_a_cancelled_parent_cancels_its_descendants_with_that_reason(tenant: Tenant) -> None:
    root = submitted(tenant)
    child = submitted(tenant, depends_on=(root.pk,))
    cancel(root.pk, by="user:bob")
    assert (fresh(child).status, fresh(child).status_reason) == ("cancelled", "parent_cancelled")


def test_a_child_may_ask_to_run_anyway(tenant: Tenant) -> None:
    root = submitted(tenant)
    early = submitted(tenant, depends_on=(root.pk,), on_parent_failure="run")
    failed(root)
    late = submitted(tenant, depends_on=(root.pk,), on_parent_failure="run")
    assert {fresh(early).status, fresh(late).status} == {"queued"}


def test_a_retried_parent_brings_back_who_was_cancelled_only_because_of_it(tenant: Tenant) -> None:
    root = submitted(tenant)
    child = submitted(tenant, depends_on=(root.pk,))
    by_user = submitted(tenant, depends_on=(root.pk,))
    cancel(by_user.pk, by="user:bob")
    failed(root)
    retry(root.pk, by="user:bob")
    assert fresh(child).status == "blocked"
    ended(fresh(root))
    assert fresh(child).status == "queued"
    assert fresh(by_user).status == "cancelled"


# -- limits and keys ---------------------------------------------------------------------------------


def test_a_queued_limit_holds_and_frees_with_the_line(tenant: Tenant) -> None:
    Limit.objects.create(tenant=tenant, queue="normal", queued=2)
    tasks = [submitted(tenant) for _ in range(2)]
    with pytest.raises(QueuedLimit):
        submitted(tenant)
    cancel(tasks[0].pk, by="user:bob")
    submitted(tenant)
    assert Backlog.objects.get(tenant_id=tenant.pk, queue="normal").queued == 2
    recount_backlog([(tenant.pk, "normal")])
    assert Backlog.objects.get(tenant_id=tenant.pk, queue="normal").queued == 2


@pytest.mark.django_db(transaction=True)
def test_forty_clients_at_once_never_get_past_a_queued_limit() -> None:
    from tests.tasks.api.work import publish_types, start_platform

    publish_types()
    start_platform()
    tenant = Tenant.objects.create(slug="crowd", name="Crowd")
    Limit.objects.create(tenant=tenant, queue="", queued=5)
    together = threading.Barrier(40)
    results: list[str] = []

    def client() -> None:
        together.wait()
        try:
            submitted(tenant)
            results.append("accepted")
        except QueuedLimit:
            results.append("refused")
        finally:
            connection.close()

    threads = [threading.Thread(target=client) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results.count("accepted") == 5
    assert len(results) == 40
    assert Ready.objects.filter(tenant_id=tenant.pk).count() == 5
    assert Backlog.objects.get(tenant_id=tenant.pk, queue="").queued == 5


def test_a_tenant_that_submits_too_fast_is_told_when_to_come_back(tenant: Tenant) -> None:
    Limit.objects.create(tenant=tenant, queue="", submit_per_second=2)
    submitted(tenant)
    submitted(tenant)
    with pytest.raises(SubmitRate) as refused:
        submitted(tenant)
    assert 0 < float(refused.value.headers["Retry-After"]) <= 1


def test_a_key_is_taken_as_long_as_its_task_is_active(tenant: Tenant) -> None:
    first = submitted(tenant, key="deploy")
    with pytest.raises(KeyConflict) as conflict:
        submitted(tenant, key="deploy")
    assert conflict.value.extra["task"] == str(first.pk)
    other = Tenant.objects.create(slug="other", name="Other")
    submitted(other, key="deploy")
    ended(first)
    submitted(tenant, key="deploy")


def test_a_replacing_submission_cancels_the_one_before(tenant: Tenant) -> None:
    first = submitted(tenant, key="deploy")
    second = submitted(tenant, key="deploy", key_policy="replace")
    assert (fresh(first).status, fresh(first).status_reason) == ("cancelled", "replaced")
    assert fresh(second).status == "queued"


# -- events ------------------------------------------------------------------------------------------


def test_events_are_numbered_without_gap_and_tell_each_status(tenant: Tenant) -> None:
    task = submitted(tenant, retry={"delay": 0, "jitter": 0})
    claimed = running(task, Progress(timezone.now(), 50, "half"))
    finish(task.pk, claimed.epoch, Outcome(RunStatus.FAILED, error={"code": "e", "message": "m"}))
    due(task.pk, "retry")
    ended(fresh(task))
    events = list(Event.objects.filter(task_id=task.pk).order_by("seq"))
    assert [event.seq for event in events] == list(range(1, fresh(task).last_seq + 1))
    statuses = [event.data["status"] for event in events if event.kind == "state"]
    assert statuses == ["queued", "running", "retry_wait", "queued", "running", "completed"]
    for before, after in zip(statuses, events[1:], strict=False):
        if after.kind == "state":
            assert after.data["from"] in statuses
        assert before
