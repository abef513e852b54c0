"""The submit form as a whole: what was typed, the API's body that it means, and its errors.

The body is read and checked by what the API uses, so the form refuses what the API refuses and
places each error by the same JSON Pointer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from rest_framework.exceptions import ValidationError

from rest.errors import BadRequest, FieldError
from rest.pointers import field_errors
from rest.strict_json import parse_json
from rest.times import rfc3339
from tasks.api.serializers import read_submission
from tasks.models import TaskType
from tasks.states import Queue
from tasks.submission import Submission
from web.schema_form import Field, fields_of, fill, place_errors, read_params

FEW = 6
_INTEGER = re.compile(r"-?[0-9]{1,4}")


@dataclass
class SubmitForm:
    """The fields of a task type and of a task's options; ``rest`` are errors of no field."""

    task_type: TaskType
    params: list[Field]
    options: dict[str, Field]
    rest: list[FieldError] = field(default_factory=list)
    body: dict[str, Any] = field(default_factory=dict)
    submission: Submission | None = None

    @property
    def main_params(self) -> list[Field]:
        """Return the fields that are shown at once: all of a few, else what is required or simple.

        PostgreSQL's jsonb forgets the order of a schema's properties, so that cannot be the guide.
        """
        if len(self.params) <= FEW:
            return self.params
        required = [item for item in self.params if item.required]
        simple = [item for item in self.params if item.kind in ("integer", "number", "choice", "text")]
        return required or simple[:FEW] or self.params[:FEW]

    @property
    def more_params(self) -> list[Field]:
        """Return the fields that are folded away; those with errors come out by themselves."""
        main = {id(item) for item in self.main_params}
        return [item for item in self.params if id(item) not in main]

    @property
    def more_open(self) -> bool:
        """Tell whether a folded field has something to show."""
        return any(item.errors for item in self.more_params)

    @property
    def options_open(self) -> bool:
        """Tell whether the options that are rarely needed have something to show."""
        return any(item.errors for item in self.options.values()) or any(
            self.options[name].value for name in ("key", "scheduled_for", "labels")
        )

    @property
    def has_errors(self) -> bool:
        """Tell whether any place has an error."""
        fields = [*self.params, *self.options.values()]
        return bool(self.rest) or any(item.errors for item in fields)

    def place(self, errors: list[FieldError]) -> None:
        """Put errors at their fields, and those without one at the head of the form."""
        self.rest += place_errors([*self.params, *self.options.values()], errors)


def empty_form(task_type: TaskType, query: Mapping[str, str]) -> SubmitForm:
    """Return the form of a type with its defaults; ``query`` may prefill params (JSON) and queue."""
    form = SubmitForm(task_type, fields_of(task_type.params_schema), _options(task_type))
    try:
        given = json.loads(query.get("params", "{}"))
    except (ValueError, RecursionError):
        given = None
    if isinstance(given, dict):
        fill(form.params, given)
    if query.get("queue") in set(Queue):
        form.options["queue"].value = query["queue"]
    return form


def read_form(task_type: TaskType, posted: Mapping[str, str]) -> SubmitForm:
    """Read what was typed; ``submission`` is set when the API would take the body it makes."""
    form = SubmitForm(task_type, fields_of(task_type.params_schema), _options(task_type))
    params, errors = read_params(form.params, posted)
    for item in form.options.values():
        item.value = posted.get(item.name, "").strip()
    options, wrong_labels = _read_options(form.options)
    form.body = {"type": task_type.name, "params": params, **options}
    submission, refused = _as_the_api_reads(form.body)
    errors += wrong_labels + refused
    form.submission = None if errors else submission
    form.place(errors)
    return form


def _as_the_api_reads(body: dict[str, Any]) -> tuple[Submission | None, list[FieldError]]:
    try:
        document = parse_json(json.dumps(body).encode())
        return read_submission(document)[0], []
    except ValidationError as refusal:
        return None, field_errors(refusal.detail)
    except BadRequest as refusal:
        return None, refusal.errors or [FieldError("", refusal.code, refusal.detail)]


def _options(task_type: TaskType) -> dict[str, Field]:
    queues = [("", f"the type's own ({task_type.queue})")]
    queues += [(queue.value, queue.value) for queue in Queue]
    fields = [
        Field("queue", "/queue", "choice", "Queue", choices=queues),
        Field(
            "priority",
            "/priority",
            "integer",
            "Priority",
            "-100 to 100; higher goes first.",
            value="0",
            minimum=-100,
            maximum=100,
        ),
        Field("labels", "/labels", "list", "Labels", "One name=value a line."),
        Field(
            "key",
            "/key",
            "text",
            "Key",
            "Refused while another task with the same key has not ended.",
            max_length=255,
        ),
        Field("scheduled_for", "/scheduled_for", "time", "Start at (UTC)", "Empty: as soon as may be."),
    ]
    return {item.name: item for item in fields}


def _read_options(
    options: Mapping[str, Field],
) -> tuple[dict[str, Any], list[FieldError]]:
    """Return the options that were typed, as JSON; whether they are right is the API's to say."""
    typed = {name: item.value for name, item in options.items() if item.value}
    body: dict[str, Any] = {name: typed[name] for name in ("queue", "key") if name in typed}
    priority = typed.get("priority", "0")
    if priority != "0":
        body["priority"] = int(priority) if _INTEGER.fullmatch(priority) else priority
    if "scheduled_for" in typed:
        body["scheduled_for"] = _utc(typed["scheduled_for"])
    labels, errors = _labels(typed.get("labels", ""))
    if labels:
        body["labels"] = labels
    return body, errors


def _utc(text: str) -> str:
    """Return a browser's local date and time, which our label calls UTC, as the API writes times.

    What is no time, or in UTC none of a year that has a number, stays for the API to refuse.
    """
    try:
        moment = datetime.fromisoformat(text)
        return str(rfc3339(moment if moment.tzinfo else moment.replace(tzinfo=UTC)))
    except (ValueError, OverflowError):
        return text


def _labels(text: str) -> tuple[dict[str, str], list[FieldError]]:
    labels: dict[str, str] = {}
    for line in filter(None, (line.strip() for line in text.splitlines())):
        name, equals, value = line.partition("=")
        if not equals or not name.strip():
            detail = f"Write each label as name=value; {line[:60]!r} is not."
            return {}, [FieldError("/labels", "invalid", detail)]
        labels[name.strip()] = value.strip()
    return labels, []
