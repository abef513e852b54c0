"""The task list's filters in the admin, by the words of the API where they take words."""

from __future__ import annotations

import uuid
from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest

from tasks.models import Task, TaskType


class TypeFilter(admin.SimpleListFilter):
    """By task type. The names come from the small table of types, not from all tasks."""

    title = "type"
    parameter_name = "type"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        names = TaskType.objects.values_list("name", flat=True)
        return [(name, name) for name in names]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Task]) -> QuerySet[Task]:
        return queryset.filter(type=self.value()) if self.value() else queryset


class _YesNoFilter(admin.SimpleListFilter):
    """Whether a time was ever set."""

    column = ""

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("true", "yes"), ("false", "no")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Task]) -> QuerySet[Task]:
        if self.value() not in ("true", "false"):
            return queryset
        return queryset.filter(**{f"{self.column}__isnull": self.value() == "false"})


class CancelRequestedFilter(_YesNoFilter):
    """Whether somebody asked to stop it."""

    title = "cancel requested"
    parameter_name = "cancel_requested"
    column = "cancel_requested_at"


class ConsumedFilter(_YesNoFilter):
    """Whether its submitter has read its end."""

    title = "consumed"
    parameter_name = "consumed"
    column = "consumed_at"


class ScheduledFilter(_YesNoFilter):
    """Whether a schedule made it."""

    title = "made by a schedule"
    parameter_name = "schedule"
    column = "schedule_id"


def search_tasks(tasks: QuerySet[Task], words: str) -> QuerySet[Task]:
    """Find by id, ``label=value``, key, submitter or schedule: whole words, so that an index helps."""
    for word in words.replace("\x00", "").split():
        found = Q(key=word) | Q(submitted_by=word)
        name, equals, value = word.partition("=")
        if equals and name:
            found |= Q(labels__contains={name: value})
        try:
            wanted = uuid.UUID(word)
        except ValueError:
            pass
        else:
            children = Task.objects.filter(dependencies__parent=wanted).values("pk")
            found |= Q(pk=wanted) | Q(schedule_id=wanted) | Q(pk__in=children)
        tasks = tasks.filter(found)
    return tasks
