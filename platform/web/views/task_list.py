"""The task list: a table that filters by its address, pages by cursor and stays live."""

from __future__ import annotations

import uuid
from typing import Any, cast
from urllib.parse import urlencode, urlsplit

from django.db.models import QuerySet
from django.http import HttpResponse
from django.views.decorators.http import require_safe
from rest_framework.request import Request

from rest.errors import ValidationFailed
from rest.pagination import page_of
from rest.parameters import Parameters
from tasks.models import Task, TaskType
from tasks.selectors.tasks import visible_tasks
from tasks.selectors.waiting import waiting_for_many
from tasks.states import Queue, Status
from web.access import Visit, member_page
from web.filters import Filters, read_filters

PAGE = 50
ROWS_AT_ONCE = 100
"""How many rows the live page may ask for in one request."""


@require_safe
@member_page("tasks:read")
def task_list(visit: Visit) -> HttpResponse:
    """Show the list; htmx gets the table alone."""
    filters = read_filters(visit.request.GET)
    context = {"filters": filters, **_page(visit, filters)}
    htmx = visit.request.headers
    if htmx.get("HX-Request") and not htmx.get("HX-History-Restore-Request"):
        return visit.render("web/tasks/table.html", context)
    context |= {
        "statuses": [status.value for status in Status],
        "queues": [queue.value for queue in Queue],
        "types": TaskType.objects.values_list("name", flat=True),
    }
    return visit.render("web/tasks/list.html", context)


@require_safe
@member_page("tasks:read")
def task_rows(visit: Visit) -> HttpResponse:
    """Return the rows of the tasks named by ``ids``; those that are not visible are left out."""
    ids = _ids(visit.request.GET.get("ids", ""))
    tasks = list(visible_tasks(visit.tenant).select_related("tenant").filter(pk__in=ids))
    return visit.render("web/tasks/rows.html", {"tasks": _with_waiting(tasks)})


def _page(visit: Visit, filters: Filters) -> dict[str, Any]:
    queryset = filters.apply(visit.tenant)
    cursor = visit.request.GET.get("cursor", "")
    try:
        found = _read(visit, filters, queryset, cursor)
    except ValidationFailed:
        # A cursor of yesterday's key or of another list: begin at the newest instead of refusing.
        cursor = ""
        found = _read(visit, filters, queryset, cursor)
    empty = not found["results"]
    return {
        "tasks": _with_waiting(found["results"]),
        "next": _query(found["next"]),
        "previous": _query(found["previous"]),
        "first_page": not cursor,
        "none_yet": empty and not filters and not cursor,
        "no_match": empty and bool(filters or cursor),
        "list_query": urlencode({**filters.values, **({"cursor": cursor} if cursor else {})}),
    }


def _read(visit: Visit, filters: Filters, queryset: QuerySet[Task], cursor: str) -> dict[str, Any]:
    values = {**filters.values, "limit": str(PAGE)}
    if cursor:
        values["cursor"] = cursor
    return page_of(
        cast(Request, visit.request),  # it is asked for its path only
        Parameters(values),
        queryset,
        lambda task: task,
        column="ordinal",
    )


def _query(link: str | None) -> str | None:
    """Return the query of a paging link, so that the page's own address is kept."""
    return None if link is None else "?" + urlsplit(link).query


def _with_waiting(tasks: list[Task]) -> list[tuple[Task, Any]]:
    reasons = waiting_for_many(tasks)
    return [(task, reasons.get(task.pk)) for task in tasks]


def _ids(text: str) -> list[uuid.UUID]:
    found = []
    for word in text.split(",")[:ROWS_AT_ONCE]:
        try:
            found.append(uuid.UUID(word))
        except ValueError:
            continue
    return found
