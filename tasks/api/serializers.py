"""What clients may send about tasks; anything else is refused at its own pointer."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from rest.fields import (
    ChoiceField,
    Duration,
    NameField,
    StrictBoolean,
    StrictFloat,
    StrictInteger,
    StrictSerializer,
    StrictString,
    ZonedDateTime,
)
from switchyard.bounds import MAX_SLOTS
from tasks.api.fields import Identifier, JsonObject, Labels, StrictUUID
from tasks.services.submit import MAX_PARENTS
from tasks.states import Queue
from tasks.submission import Submission

WEEK = 7 * 24 * 3600.0
MAX_RETRIES = 100
MAX_BULK = 10_000
"""Tasks that one bulk action changes at most; who leaves ``limit`` out gets all up to this."""

OPTIONAL: Any = {"required": False, "allow_null": True}
"""A member that may be left out, or be null: both mean "what the type says"."""


def _error_names() -> serializers.ListField:
    """Return the field of a list of error codes and exception classes."""
    name = Identifier(
        pattern=r"[A-Za-z_][A-Za-z0-9_.]*", allowed="an error's code or class name", max_length=100
    )
    return serializers.ListField(child=name, max_length=50, required=False)


class RetryPolicy(StrictSerializer):
    """When to try again after a failure, and after how long; what is left out is the type's.

    The wait is delay × factor ** failures seconds, at most ``max_delay``, ± ``jitter`` (a share).
    ``retry_on`` and ``never_on`` list error codes and names of exception classes: what ``never_on``
    names is not tried again; where ``retry_on`` names anything, nothing else is.
    """

    delay = Duration(maximum=WEEK, required=False)
    factor = StrictFloat(minimum=1, maximum=100, required=False)
    max_delay = Duration(maximum=WEEK, required=False)
    jitter = StrictFloat(minimum=0, maximum=1, required=False)
    retry_on = _error_names()
    never_on = _error_names()


class RunLimits(StrictSerializer):
    """What one run may use; null is the type's limit."""

    cpu_seconds = Duration(above=0, maximum=4 * WEEK, **OPTIONAL)
    memory_mb = StrictInteger(minimum=1, maximum=1024 * 1024, **OPTIONAL)
    output_mb = StrictInteger(minimum=1, maximum=1024, **OPTIONAL)
    processes = StrictInteger(minimum=1, maximum=10_000, **OPTIONAL)


class SubmitBody(StrictSerializer):
    """``POST /tasks``."""

    type = StrictString(min_length=1, max_length=100)
    params = JsonObject(required=False)
    queue = ChoiceField(choices=tuple(queue.value for queue in Queue), **OPTIONAL)
    priority = StrictInteger(minimum=-100, maximum=100, required=False)
    labels = Labels(required=False)
    scheduled_for = ZonedDateTime(**OPTIONAL)
    depends_on = serializers.ListField(child=StrictUUID(), max_length=MAX_PARENTS, required=False)
    on_parent_failure = ChoiceField(choices=("cancel", "run"), required=False)
    key = NameField(max_length=255, **OPTIONAL)
    key_policy = ChoiceField(choices=("reject", "queue", "replace"), required=False)
    max_retries = StrictInteger(minimum=0, maximum=MAX_RETRIES, **OPTIONAL)
    retry = RetryPolicy(**OPTIONAL)
    idempotent = StrictBoolean(**OPTIONAL)
    preemptible = StrictBoolean(**OPTIONAL)
    time_limit = Duration(above=0, maximum=4 * WEEK, **OPTIONAL)
    queue_timeout = Duration(above=0, maximum=52 * WEEK, **OPTIONAL)
    limits = RunLimits(required=False)
    inputs = serializers.ListField(
        child=Identifier(
            pattern=r"(?!\.{1,2}\Z)[A-Za-z0-9._-]+",
            allowed="letters, digits, dots, hyphens and underscores",
            max_length=100,
        ),
        max_length=50,
        required=False,
    )
    secrets = serializers.ListField(
        child=Identifier(
            pattern=r"[A-Za-z_][A-Za-z0-9_]*",
            allowed="letters, digits and underscores, not beginning with a digit",
            max_length=100,
        ),
        max_length=50,
        required=False,
    )
    dry_run = StrictBoolean(required=False)


class SubmitInputsBody(StrictSerializer):
    """``POST …/submit``: an empty object, or nothing."""


class ActionBody(StrictSerializer):
    """``POST …/cancel`` and ``…/retry``."""

    reason = NameField(max_length=1000, lines=True, **OPTIONAL)
    force = StrictBoolean(required=False)


class MaintenanceBody(StrictSerializer):
    """``PUT /operator/maintenance``."""

    enabled = StrictBoolean()
    reason = NameField(max_length=1000, lines=True, **OPTIONAL)


class ReasonBody(StrictSerializer):
    """``POST /operator/…/pause``, ``…/resume`` and ``…/drain``: why, or nothing."""

    reason = NameField(max_length=1000, lines=True, **OPTIONAL)


class PoolBoundsBody(StrictSerializer):
    """The fewest and the most slots of a pool on each machine."""

    min = StrictInteger(minimum=0, maximum=MAX_SLOTS)
    max = StrictInteger(minimum=0, maximum=MAX_SLOTS)


class PoolsBody(StrictSerializer):
    """``PATCH /operator/pools``: what is left out stays."""

    critical = PoolBoundsBody(required=False)
    normal = PoolBoundsBody(required=False)
    batch = PoolBoundsBody(required=False)


class BulkBody(StrictSerializer):
    """``POST /tasks/actions/…``: ``filter`` takes the list's parameters."""

    filter = JsonObject()
    limit = StrictInteger(minimum=1, maximum=MAX_BULK, required=False)
    dry_run = StrictBoolean(required=False)
    reason = NameField(max_length=1000, lines=True, **OPTIONAL)


def read_submission(data: Any) -> tuple[Submission, bool]:
    """Return what a body asks for, and whether it is only a try (``dry_run``).

    Raises:
        ValidationError: answered as 400 with a pointer per wrong place.
    """
    values = SubmitBody.read(data)
    dry_run = bool(values.pop("dry_run", False))
    limits = {name: limit for name, limit in values.pop("limits", {}).items() if limit is not None}
    for name in ("inputs", "secrets"):
        # In the order given, each once.
        values[name] = tuple(dict.fromkeys(values.get(name, ())))
    # As given, so that an error points at the right place.
    values["depends_on"] = tuple(values.get("depends_on", ()))
    return Submission(limits=limits, **values), dry_run
