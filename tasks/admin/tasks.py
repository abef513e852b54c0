"""Tasks in the admin: look, cancel, retry, declare lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from django.contrib import admin, messages
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from audit.services import record
from rest.admin import ReadOnlyAdmin
from rest.errors import Conflict
from tasks.admin.filters import (
    CancelRequestedFilter,
    ConsumedFilter,
    ScheduledFilter,
    TypeFilter,
    search_tasks,
)
from tasks.admin.runs import RunInline
from tasks.errors import QueuedLimit
from tasks.models import Dependency, Task
from tasks.selectors.history import events_after
from tasks.services.cancel import cancel
from tasks.services.lose import lose_now
from tasks.services.retry import retry

EVENTS_SHOWN = 200
REASON = "by an operator, in the admin"


@admin.register(Task)
class TaskAdmin(ReadOnlyAdmin):
    """The tasks of all tenants."""

    list_display = (
        *("id", "tenant", "type", "queue", "priority", "status", "status_reason"),
        *("submitted_by", "created_at", "finished_at"),
    )
    list_filter = (
        *("status", "queue", TypeFilter, "tenant", CancelRequestedFilter, ConsumedFilter),
        *(ScheduledFilter, "created_at", "started_at", "finished_at"),
    )
    list_select_related = ("tenant",)
    search_fields = ("id",)
    search_help_text = "An id (also of a parent or a schedule), label=value, a key, a submitter"
    ordering = ("-ordinal",)
    inlines = (RunInline,)
    actions = ("cancel_tasks", "retry_tasks", "declare_lost")
    readonly_fields = ("parents", "events")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Task], search_term: str
    ) -> tuple[QuerySet[Task], bool]:
        """Search by whole words; see :func:`search_tasks`."""
        return search_tasks(queryset, search_term), False

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """Tell whether the user may act on tasks: the permission to change them."""
        return request.user.has_perm("tasks.change_task")

    @admin.display(description="waits for")
    def parents(self, task: Task) -> SafeString | str:
        """Return the parents with their status."""
        rows = Task.objects.filter(dependents__child=task).order_by("ordinal")
        return format_html_join("", "{} ({})<br>", rows.values_list("id", "status")) or "nothing"

    @admin.display(description="events")
    def events(self, task: Task) -> SafeString:
        """Return the newest events; the log has a page of its own."""
        newest = events_after(
            task.pk,
            max(0, task.last_seq - EVENTS_SHOWN),
            limit=EVENTS_SHOWN,
            kinds={"state", "progress", "error", "note"},
        )
        rows = format_html_join(
            "",
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td><code>{}</code></td></tr>",
            (
                (
                    event["seq"],
                    event["at"],
                    event["kind"],
                    event["run"] or "",
                    json.dumps(event["data"], ensure_ascii=False),
                )
                for event in reversed(newest)
            ),
        )
        return format_html(
            "<table><tr><th>#</th><th>at</th><th>kind</th><th>run</th><th>data</th></tr>{}</table>",
            rows,
        )

    @admin.action(description="Cancel", permissions=["operate"])
    def cancel_tasks(self, request: HttpRequest, queryset: QuerySet[Task]) -> None:
        """Cancel the chosen tasks."""
        by = _operator(request)
        self._each(
            request, queryset, "cancel", lambda task: cancel(task.pk, by=by, reason=REASON).changed
        )

    @admin.action(description="Retry", permissions=["operate"])
    def retry_tasks(self, request: HttpRequest, queryset: QuerySet[Task]) -> None:
        """Give the chosen tasks a new life."""
        by = _operator(request)
        self._each(request, queryset, "retry", lambda task: bool(retry(task.pk, by=by)))

    @admin.action(description="Declare the run lost", permissions=["operate"])
    def declare_lost(self, request: HttpRequest, queryset: QuerySet[Task]) -> None:
        """End the runs of the chosen tasks as lost, without waiting for their leases."""
        self._each(
            request,
            queryset,
            "lose",
            lambda task: lose_now(task.pk, epoch=task.epoch, crashed=False) is not None,
            together=False,
        )

    def _each(
        self,
        request: HttpRequest,
        queryset: QuerySet[Task],
        action: str,
        change: Callable[[Task], bool],
        *,
        together: bool = True,
    ) -> None:
        """Do it to each task in a transaction of its own, with its entry in the trail.

        ``together`` False is for a deed that is several transactions itself: a lease is ended in
        one, and found to have ended by the clock of the next.
        """
        changed = unfit = 0
        for task in queryset.order_by("ordinal"):
            try:
                with transaction.atomic() if together else nullcontext():
                    if not change(task):
                        unfit += 1
                        continue
                    _leave_trail(request, task, action)
            except (Conflict, QueuedLimit):
                unfit += 1
            else:
                changed += 1
        level = messages.SUCCESS if not unfit else messages.WARNING
        self.message_user(request, f"{changed} changed, {unfit} left as they were.", level)


@admin.register(Dependency)
class DependencyAdmin(ReadOnlyAdmin):
    """Which task waits for which."""

    list_display = ("child_id", "parent_id")
    raw_id_fields = ("child", "parent")


def _operator(request: HttpRequest) -> str:
    return f"operator:{request.user.get_username()}"


def _leave_trail(request: HttpRequest, task: Task, action: str) -> Any:
    return record(
        actor=_operator(request),
        action=f"task.{action}",
        object=f"task:{task.pk}",
        tenant_id=task.tenant_id,
        reason=REASON,
    )
