"""Which tasks a caller may see."""

from __future__ import annotations

import uuid

from django.db.models import QuerySet

from rest.errors import NotFound
from tasks.models import Run, Task
from tenants.actor import Actor
from tenants.models import Tenant


def visible_tasks(tenant: Tenant) -> QuerySet[Task]:
    """Return the tenant's tasks, newest first; whoever is inside a tenant sees all of them."""
    return Task.objects.filter(tenant=tenant).order_by("-ordinal")


def listed_tasks(tenant: Tenant) -> QuerySet[Task]:
    """Return the same without what only a task's own page shows: a checkpoint may be large."""
    return visible_tasks(tenant).defer("checkpoint", "retry", "limits", "secrets")


def visible_task(actor: Actor, tenant: Tenant, task_id: uuid.UUID | str) -> Task:
    """Return one task of the tenant that the caller is in.

    Raises:
        NotFound: it is another tenant's, does not exist, or the id is malformed: all the same.
    """
    if actor.tenant_id != tenant.pk:
        raise NotFound()
    try:
        wanted = task_id if isinstance(task_id, uuid.UUID) else uuid.UUID(task_id)
    except ValueError:
        raise NotFound() from None
    task = Task.objects.filter(tenant=tenant, pk=wanted).first()
    if task is None:
        raise NotFound()
    task.tenant = tenant
    return task


def run_of(task: Task, attempt: int) -> Run:
    """Return one run of a task by its number, 1 being the first.

    Raises:
        NotFound: it has made no such attempt.
    """
    run = task.runs.filter(attempt=attempt).first()
    if run is None:
        raise NotFound()
    return run


def is_submitter(actor: Actor, task: Task) -> bool:
    """Tell whether the task was submitted by this very caller, not by a namesake."""
    return bool(task.submitter) and task.submitter == actor.key
