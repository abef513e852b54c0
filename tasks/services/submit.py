"""Submitting: store a task, its first event and its place in line, or refuse it with a reason."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple

from django.conf import settings
from django.db import transaction

from rest.errors import BadRequest, FieldError
from rest.request_id import current_request_id
from rest.ties import again_on_ties
from switchyard.handler import DEFAULT_RETRY
from tasks import fault_points
from tasks.clock import database_now
from tasks.errors import BadDependency, Maintenance, UnknownSecret, UnknownTaskType
from tasks.models import Dependency, Task, TaskType
from tasks.parents import Judgement, Parent, Prospect, judge
from tasks.schemas import check_params
from tasks.selectors.types import intake
from tasks.services.admission import admit, room, unlimited
from tasks.services.cancel import cancel_task
from tasks.services.classify import Classified, classify
from tasks.services.graph import settle
from tasks.services.keys import active_with, check_key, take_key
from tasks.services.later import first_deadline, remember_due
from tasks.services.ready import one_change
from tasks.services.store import store
from tasks.services.transitions import lock_task
from tasks.states import INITIAL, Reason, Status
from tasks.submission import Submission, effective_retries
from tenants.actor import Actor
from tenants.models import Tenant

MAX_PARENTS = 100
HORIZON = timedelta(days=366 * 5)
"""A start further away than this is taken for a mistake."""
LATENESS = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What submitting would do now: for ``dry_run``.

    ``culprit`` is the parent because of which the task would be cancelled at once.
    """

    would: str
    waiting_for: str | None
    queue: str
    task_type: TaskType
    culprit: Parent | None = None


class Submitted(NamedTuple):
    """A task that was stored, and the answer to :func:`tasks.selectors.waiting.places_of` of it if that
    could be asked behind the COMMIT, None if not.
    """

    task: Task
    place: Any = None


def submit(tenant: Tenant, actor: Actor, submission: Submission) -> Task:
    """Store a task and return it, as :func:`submit_and_ask` does."""
    return submit_and_ask(tenant, actor, submission).task


@again_on_ties
def submit_and_ask(tenant: Tenant, actor: Actor, submission: Submission) -> Submitted:
    """Store a task in the caller's transaction, and ask where it stands if that costs no round trip.

    Raises:
        UnknownTaskType, ScopeRequired, BadParams, BadDependency, KeyConflict, QueuedLimit, SubmitRate,
        Maintenance: and nothing is stored.
    """
    with one_change() as whole:
        # The first to be called: before anybody is told of the task.
        transaction.on_commit(lambda: fault_points.reach("after_commit"))
        task_type, limits, classified = _check(tenant, actor, submission)
        parents = _lock_parents(tenant, submission.depends_on)
        if _take_key(tenant, submission):
            # What it replaces may be one of its parents, and has ended now.
            parents = _lock_parents(tenant, submission.depends_on)
        task, facts = _made(tenant, actor, submission, task_type, classified, parents)
        if _is_plain(task, parents) and unlimited(task.queue, limits):
            # Most submissions are like this, and are two questions to the database.
            fault_points.reach("before_commit")
            place = store(task, facts, type_id=task_type.pk, counted=True, last=whole)
            return Submitted(task, place)
        store(task, facts, type_id=task_type.pk)
        if parents:
            Dependency.objects.bulk_create(Dependency(child=task, parent=parent) for parent in parents)
        remember_due(task)
        enters_line = task.status == Status.QUEUED
        if not enters_line and any(parent.finished_at is not None for parent in parents):
            settle(task)
        admit(tenant.pk, task.queue, limits, enters_line=enters_line)
        fault_points.reach("before_commit")
    return Submitted(task)


def _is_plain(task: Task, parents: list[Task]) -> bool:
    """Whether a task enters its line at once, and nothing else has to be written for it."""
    return task.status == Status.QUEUED and task.key is None and task.deadline_at is None and not parents


def try_submit(tenant: Tenant, actor: Actor, submission: Submission) -> Verdict:
    """Check a submission as :func:`submit` would, storing nothing.

    Raises:
        The same errors as :func:`submit`, but for the submit rate, which it does not charge.
    """
    with transaction.atomic():
        task_type, limits, classified = _check(tenant, actor, submission)
        check_key(tenant.pk, submission.key, submission.key_policy)
        parents = _lock_parents(tenant, submission.depends_on)
        queue = classified.queue
        judgement = _judged(submission, parents)
        if judgement.prospect is Prospect.DOOMED:
            return Verdict("wait", "parents", queue, task_type, judgement.culprit)
        status = _first_status(submission, parents)
        if status is Status.QUEUED:
            room(tenant.pk, queue, limits)
            return Verdict("start", None, queue, task_type)
    reason = {
        Status.ALLOCATED: "inputs",
        Status.SCHEDULED: "schedule",
        Status.BLOCKED: "parents",
    }[status]
    return Verdict("wait", reason, queue, task_type)


def _check(
    tenant: Tenant, actor: Actor, submission: Submission
) -> tuple[TaskType, dict[str, Any], Classified]:
    """Return the task's type, the tenant's limits, and where the task goes."""
    task_type, stopped, routes, limits = intake(submission.type, tenant.pk)
    if stopped or settings.SWITCHYARD.maintenance:
        raise Maintenance
    if task_type is None or (task_type.test_only and not settings.SWITCHYARD.test_task_types):
        raise UnknownTaskType(submission.type)
    classified = classify(actor, tenant.pk, submission, task_type, routes)
    check_params(task_type.params_schema, submission.params)
    if submission.secrets:
        # Tenants have no stored secrets yet, so every name is unknown.
        raise UnknownSecret(0, submission.secrets[0])
    if submission.scheduled_for is not None:
        now = database_now()
        if not now - LATENESS <= submission.scheduled_for <= now + HORIZON:
            detail = "scheduled_for must lie between a day ago and five years from now."
            raise BadRequest(detail, errors=[FieldError("/scheduled_for", "out_of_range", detail)])
    return task_type, limits, classified


def _take_key(tenant: Tenant, submission: Submission) -> bool:
    """Apply the policy of the key, and make sure that nobody else submits with it meanwhile.

    What is replaced while it runs keeps the key until it has ended; the new task waits for that.
    Returns whether a task was cancelled to make room.
    """
    if submission.key is None:
        return False
    take_key(tenant.pk, submission.key)
    check_key(tenant.pk, submission.key, submission.key_policy)
    replaced = False
    if submission.key_policy == "replace":
        for found in active_with(tenant.pk, submission.key):
            task = lock_task(found.pk)
            if task.finished_at is None and task.cancel_requested_at is None:
                cancel_task(task, by="system", reason="", force=False, why=Reason.REPLACED)
                replaced = True
    return replaced


def _lock_parents(tenant: Tenant, ids: tuple[uuid.UUID, ...]) -> list[Task]:
    """Return the parents, each locked against ending until the child is stored."""
    if not ids:
        return []
    if len(ids) > MAX_PARENTS:
        raise BadDependency(MAX_PARENTS, f"A task can wait for at most {MAX_PARENTS} others.")
    # NO KEY UPDATE rather than SHARE: two children of one parent must not both hold it shared and
    # then, while cancelling, wait for each other.
    found = {
        task.pk: task
        for task in Task.objects.select_for_update(no_key=True)
        .filter(tenant=tenant, pk__in=ids)
        .order_by("ordinal")
    }
    for index, parent in enumerate(ids):
        if parent not in found:
            raise BadDependency(index, f"There is no task {parent} in this tenant.")
    return list(found.values())


def _first_status(submission: Submission, parents: list[Task]) -> Status:
    if submission.inputs:
        return Status.ALLOCATED
    if submission.scheduled_for and submission.scheduled_for > database_now():
        return Status.SCHEDULED
    # Also one that waits in vain begins as blocked: its events then tell what an early child's do.
    free = _judged(submission, parents).prospect is Prospect.FREE
    return Status.QUEUED if free else Status.BLOCKED


def _judged(submission: Submission, parents: list[Task]) -> Judgement:
    return judge(
        [Parent(parent.pk, parent.status, parent.finished_at) for parent in parents],
        run_anyway=submission.on_parent_failure == "run",
    )


def _made(
    tenant: Tenant,
    actor: Actor,
    submission: Submission,
    task_type: TaskType,
    classified: Classified,
    parents: list[Task],
) -> tuple[Task, dict[str, Any]]:
    """Return the task that is to be stored, and what its first event tells."""
    status = _first_status(submission, parents)
    assert status in INITIAL  # noqa: S101 - the trigger would refuse it
    idempotent = task_type.idempotent if submission.idempotent is None else submission.idempotent
    task = Task(
        tenant=tenant,
        type=task_type.name,
        type_version=task_type.version,
        queue=classified.queue,
        priority=submission.priority,
        status=status.value,
        params=submission.params,
        labels=submission.labels,
        key=submission.key,
        key_policy=submission.key_policy,
        on_parent_failure=submission.on_parent_failure,
        idempotent=idempotent,
        preemptible=(
            task_type.preemptible if submission.preemptible is None else submission.preemptible
        ),
        max_retries=effective_retries(
            submission.max_retries, task_type.max_retries, idempotent=idempotent
        ),
        retry={**DEFAULT_RETRY, **task_type.retry, **(submission.retry or {})},
        time_limit=submission.time_limit or task_type.time_limit,
        queue_timeout=submission.queue_timeout,
        limits={**task_type.limits, **submission.limits},
        inputs=list(submission.inputs),
        secrets=list(submission.secrets or task_type.secrets),
        submitted_by=actor.name,
        submitter=actor.key,
        request_id=current_request_id(),
        scheduled_for=submission.scheduled_for,
        deadline_at=first_deadline(status, submission.queue_timeout, submission.scheduled_for),
    )
    facts: dict[str, Any] = {"by": actor.name, "type": task.type, "queue": task.queue}
    facts.update(classified.facts)
    if submission.scheduled_for:
        facts["scheduled_for"] = submission.scheduled_for.isoformat()
    return task, facts
