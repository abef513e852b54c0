"""A task type as its handler declares it, in full: what workers publish and supervisors obey."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from switchyard.handler import Declaration

if TYPE_CHECKING:
    from collections.abc import Mapping

NO_PARAMS: Mapping[str, Any] = {
    "type": "object",
    "properties": {},
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True)
class HandlerSpec:
    """One task type; the fields are those of `switchyard.handler`, with every default decided.

    `entry` is "module:function", what a sandboxed process imports. `params_schema` is JSON Schema.
    """

    name: str
    entry: str
    params_schema: Mapping[str, Any]
    version: int
    queue: str
    title: str
    description: str
    idempotent: bool
    cancellable: bool
    time_limit: float
    max_retries: int
    retry: Mapping[str, Any]
    limits: Mapping[str, int | None]
    secrets: tuple[str, ...]
    network: bool
    on_loss: str | None
    on_shutdown: str | None
    preemptible: bool
    needs: tuple[str, ...]
    steering: bool


def specify(declaration: Declaration) -> HandlerSpec:
    """The full specification of a declared handler; the docstring is its description."""
    options = dict(declaration.options)
    function = declaration.function
    description = options.pop("description") or inspect.getdoc(function) or ""
    title = options.pop("title") or declaration.name
    return HandlerSpec(
        name=declaration.name,
        entry=f"{function.__module__}:{function.__qualname__}",
        params_schema=schema_of(options.pop("params")),
        title=title,
        description=description,
        **options,
    )


def schema_of(params: Any) -> Mapping[str, Any]:
    """JSON Schema of a handler's params: a pydantic model class, a schema, or None (no params)."""
    if params is None:
        return NO_PARAMS
    if isinstance(params, type):
        schema: Mapping[str, Any] = params.model_json_schema()  # type: ignore[attr-defined]
        return schema
    return dict(params)
