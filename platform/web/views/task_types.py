"""The catalogue of task types: what can be run here, with which params and defaults."""

from __future__ import annotations

from django.conf import settings
from django.db.models import QuerySet
from django.http import HttpResponse
from django.views.decorators.http import require_safe

from tasks.models import TaskType, Worker
from web.access import Visit, member_page
from web.schema_form import fields_of


def known_types() -> QuerySet[TaskType]:
    """Return the task types that may be submitted; test types only where they are switched on."""
    found = TaskType.objects.all()
    return found if settings.SWITCHYARD.test_task_types else found.filter(test_only=False)


@require_safe
@member_page("tasks:read")
def task_types(visit: Visit) -> HttpResponse:
    """Show every task type with its fields, its schema and whether a worker can run it now."""
    served: set[str] = set()
    for names in Worker.objects.filter(status="alive").values_list("types", flat=True):
        served.update(names)
    shown = [
        {"type": item, "fields": fields_of(item.params_schema), "served": item.name in served}
        for item in known_types()
    ]
    return visit.render("web/task_types.html", {"types": shown})
