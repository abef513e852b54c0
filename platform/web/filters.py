"""The task list's filters, read from the address bar: a link to a list is a link to its filters.

They are the API's filters. Unlike there, a wrong value is shown at its filter and ignored, because
people edit addresses by hand.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlencode

from django.db.models import QuerySet
from django.http import QueryDict

from rest.errors import ValidationFailed
from rest.parameters import Parameters
from rest.strict_json import text_fault
from tasks.models import Task
from tasks.selectors.filters import filter_tasks
from tasks.selectors.tasks import listed_tasks
from tasks.states import ALIASES
from tenants.models import Tenant

NAMES = ("status", "type", "queue", "label", "submitted_by")
_ID = re.compile(r"[0-9a-f-]{1,36}")


@dataclass
class Filters:
    """What the list is narrowed to, by name; ``q`` is the beginning of an id.

    ``wrong`` says, by name, why a filter was ignored.
    """

    values: dict[str, str]
    wrong: dict[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.values)

    @property
    def statuses(self) -> list[str]:
        """Return the chosen statuses."""
        return [word for word in self.values.get("status", "").split(",") if word]

    @property
    def query(self) -> str:
        """Return the query string of these filters."""
        return urlencode(self.values)

    def apply(self, tenant: Tenant) -> QuerySet[Task]:
        """Return the tenant's tasks that match, and note in ``wrong`` what cannot be read."""
        found = listed_tasks(tenant).select_related("tenant")
        for name in NAMES:
            if name not in self.values or name in self.wrong:
                continue
            try:
                found = filter_tasks(found, Parameters({name: self.values[name]}))
            except ValidationFailed as refusal:
                self.wrong[name] = refusal.errors[0].detail
        if "q" in self.values and "q" not in self.wrong:
            found = _by_id(found, self.values["q"])
        return found


def read_filters(query: QueryDict) -> Filters:
    """Read the filters of an address. ``status`` may be repeated or hold several, with commas."""
    words = [word for part in query.getlist("status") for word in part.split(",") if word]
    values = {"status": ",".join(dict.fromkeys(str(ALIASES.get(word, word)) for word in words))}
    for name in (*NAMES[1:], "q"):
        values[name] = query.get(name, "").strip()
    values["q"] = values["q"].lower()
    values = {name: value for name, value in values.items() if value}
    return Filters(values, _unreadable(values))


def _unreadable(values: Mapping[str, str]) -> dict[str, str]:
    wrong = {}
    for name, value in values.items():
        fault = text_fault(value)
        if fault:
            wrong[name] = fault[1]
    if "q" in values and not _ID.fullmatch(values["q"]):
        wrong["q"] = "An id has digits, a to f and hyphens."
    return wrong


def _by_id(found: QuerySet[Task], text: str) -> QuerySet[Task]:
    """Narrow to ids that begin like ``text``: a range of the primary key."""
    digits = text.replace("-", "")[:32]
    low, high = uuid.UUID(digits.ljust(32, "0")), uuid.UUID(digits.ljust(32, "f"))
    return found.filter(pk__gte=low, pk__lte=high)
