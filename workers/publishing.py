"""What the workers of this installation can run, described for the tables of tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import structlog
from django.conf import settings

from switchyard.specification import HandlerSpec
from workers import registry

log = structlog.get_logger(__name__)


def described_types() -> dict[str, dict[str, Any]]:
    """Return name to description of every task type, as ``task_types_publish`` takes it.

    A package whose handlers cannot be used is told in the log and left out.
    """
    handlers = registry.load(test_types=settings.SWITCHYARD.test_task_types)
    for problem in handlers.problems:
        log.error("handlers_left_out", problem=problem)
    return {name: _description(spec) for name, spec in handlers.types.items()}


def _description(spec: HandlerSpec) -> dict[str, Any]:
    return {
        "title": spec.title,
        "description": spec.description,
        "queue": spec.queue,
        "params_schema": with_order(spec.params_schema),
        "version": spec.version,
        "handler": spec.entry,
        "cancellable": spec.cancellable,
        "idempotent": spec.idempotent,
        "preemptible": spec.preemptible,
        "steering": spec.steering,
        "network": spec.network,
        "time_limit": spec.time_limit,
        "max_retries": spec.max_retries,
        "retry": dict(spec.retry),
        "limits": {name: value for name, value in spec.limits.items() if value is not None},
        "secrets": list(spec.secrets),
        "needs": list(spec.needs),
        "on_loss": spec.on_loss or "retry",
        "on_shutdown": spec.on_shutdown or "requeue",
        "test_only": spec.entry.startswith(f"{registry.FOR_TESTS}:"),
    }


def with_order(schema: Any) -> Any:
    """Return a JSON Schema whose properties say their place (``x-order``), in all its depth.

    PostgreSQL's jsonb sorts the keys of an object, and a form should show what its author wrote first
    first.
    """
    if isinstance(schema, list):
        return [with_order(part) for part in schema]
    if not isinstance(schema, Mapping):
        return schema
    ordered = {name: with_order(part) for name, part in schema.items()}
    properties = ordered.get("properties")
    if isinstance(properties, dict):
        ordered["properties"] = {
            name: {**part, "x-order": place} if isinstance(part, dict) else part
            for place, (name, part) in enumerate(properties.items())
        }
    return ordered
