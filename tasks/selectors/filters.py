"""The filters of the task list: AND across parameters, OR inside one, unset is not "none".

They are read from :class:`rest.parameters.Parameters`, so the list, the operators' list, the bulk
actions and the web pages take the same words and refuse the same mistakes.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

from django.db.models import Q, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce

from rest.parameters import Parameters
from rest.text import UUID_FORM
from tasks.models import Task, TaskType
from tasks.routing import fits
from tasks.states import ALIASES, Queue, Status

TIMES = ("created", "started", "finished")
FILTERS = (
    "status",
    "type",
    "queue",
    "label",
    "key",
    "submitted_by",
    "schedule",
    "parent",
    *(f"{name}_{side}" for name in TIMES for side in ("after", "before")),
    "cancel_requested",
    "consumed",
)
"""The names of all filters; a list that takes them says so to ``Parameters``."""

NOBODY = "none"
"""As a value of ``submitted_by`` and ``schedule``: those that have none."""

LONGEST_SUBMISSION = timedelta(minutes=10)
"""No transaction that submits lasts longer from its first statement (``created_at``) to the number."""

_STATUSES = {status.value: status.value for status in Status} | {
    alias: status.value for alias, status in ALIASES.items()
}
QUEUE_NAMES = {queue.value: queue.value for queue in Queue}
"""What a parameter ``queue`` takes."""


def filter_tasks(tasks: QuerySet[Task], parameters: Parameters) -> QuerySet[Task]:
    """Narrow ``tasks`` by the filters among the parameters.

    Raises:
        ValidationFailed: a value that its filter does not take.
    """
    conditions = Q()
    statuses = parameters.choices("status", _STATUSES)
    if statuses is not None:
        conditions &= Q(status__in=statuses)
    queues = parameters.choices("queue", QUEUE_NAMES)
    if queues is not None:
        conditions &= Q(queue__in=queues)
    keys = parameters.words("key", max_length=255)
    if keys is not None:
        conditions &= Q(key__in=keys)
    conditions &= _types(parameters) & _labels(parameters) & _people(parameters)
    conditions &= _schedules(parameters) & _times(parameters)
    for name, column in (("cancel_requested", "cancel_requested_at"), ("consumed", "consumed_at")):
        wanted = parameters.boolean(name, None)
        if wanted is not None:
            conditions &= Q(**{f"{column}__isnull": not wanted})
    tasks = tasks.filter(conditions)
    parents = _uuids(parameters, "parent")
    if parents is not None:
        # A subquery: a join would repeat a child that waits for two of them.
        children = Task.objects.filter(dependencies__parent__in=parents).values("pk")
        tasks = tasks.filter(pk__in=children)
    return tasks


def _types(parameters: Parameters) -> Q:
    words = parameters.words("type")
    if words is None:
        return Q()
    names = {word for word in words if "*" not in word}
    patterns = [word for word in words if "*" in word]
    if patterns:
        # By name, so that an index finds them; whatever was ever submitted has its row here.
        known = TaskType.objects.values_list("name", flat=True)
        names |= {name for name in known if any(fits(pattern, name) for pattern in patterns)}
    return Q(type__in=sorted(names))


def _labels(parameters: Parameters) -> Q:
    words = parameters.words("label", max_length=320)
    found = Q()
    for word in words or ():
        key, equals, value = word.partition("=")
        if not key:
            raise parameters.wrong("label", "Write a label as key=value, or its key alone.")
        found |= Q(labels__contains={key: value}) if equals else Q(labels__has_key=key)
    return found


def _people(parameters: Parameters) -> Q:
    words = parameters.words("submitted_by")
    if words is None:
        return Q()
    return Q(submitted_by__in=["" if word == NOBODY else word for word in words])


def _schedules(parameters: Parameters) -> Q:
    if parameters.values.get("schedule") == NOBODY:
        return Q(schedule_id__isnull=True)
    wanted = _uuids(parameters, "schedule")
    return Q() if wanted is None else Q(schedule_id__in=wanted)


def _times(parameters: Parameters) -> Q:
    found = Q()
    for name in TIMES:
        after = parameters.time(f"{name}_after")
        before = parameters.time(f"{name}_before")
        if after is not None:
            found &= Q(**{f"{name}_at__gte": after})
            if name == "created":
                found &= _submitted_after(after)
        if before is not None:
            # What was started or finished by then was submitted by then.
            found &= Q(**{f"{name}_at__lte": before}) & _submitted_before(before)
    return found


def _submitted_before(moment: datetime) -> Q:
    """Bound the ordinals of what was created until ``moment``: the list goes by them, newest first.

    Without it, the page of a year ago would be found by reading all that came since. A task whose
    transaction began later than any other's could last is behind every one of those.
    """
    if moment > datetime.max.replace(tzinfo=UTC) - LONGEST_SUBMISSION:
        return Q()  # Nothing is submitted beyond the end of all time.
    later = Task.objects.filter(created_at__gt=moment + LONGEST_SUBMISSION).order_by("created_at")
    return Q(ordinal__lt=Coalesce(Subquery(later.values("ordinal")[:1]), Value(2**63 - 1)))


def _submitted_after(moment: datetime) -> Q:
    if moment < datetime.min.replace(tzinfo=UTC) + LONGEST_SUBMISSION:
        return Q()
    earlier = Task.objects.filter(created_at__lt=moment - LONGEST_SUBMISSION).order_by("-created_at")
    return Q(ordinal__gt=Coalesce(Subquery(earlier.values("ordinal")[:1]), Value(0)))


def _uuids(parameters: Parameters, name: str) -> list[uuid.UUID] | None:
    words = parameters.words(name)
    if words is None:
        return None
    if not all(UUID_FORM.fullmatch(word) for word in words):
        raise parameters.wrong(name, "Give UUIDs, separated by commas.")
    return [uuid.UUID(word) for word in words]
