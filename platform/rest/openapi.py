"""OpenAPI from what views declare: their query parameters and the one shape of every error."""

from __future__ import annotations

from typing import Any

from drf_spectacular.extensions import OpenApiSerializerFieldExtension
from drf_spectacular.openapi import AutoSchema as StockAutoSchema

PROBLEM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "description": "RFC 9457",
    "required": ["type", "title", "status", "detail", "code", "instance"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string", "description": "stable, snake_case"},
        "instance": {"type": "string", "description": "the request id"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["pointer", "code", "detail"],
                "properties": {
                    "pointer": {
                        "type": "string",
                        "description": "JSON Pointer into the body, query:NAME or header:NAME",
                    },
                    "code": {"type": "string"},
                    "detail": {"type": "string"},
                },
            },
        },
    },
}


class AutoSchema(StockAutoSchema):
    """Adds declared query parameters and the ``default`` problem response to each operation."""

    def get_operation(self, *args: Any, **kwargs: Any) -> dict[str, Any] | None:
        operation = super().get_operation(*args, **kwargs)
        if operation is None:
            return None
        operation.setdefault("responses", {})["default"] = {
            "description": "Any error",
            "content": {"application/problem+json": {"schema": PROBLEM_SCHEMA}},
        }
        declared = {
            (parameter.get("in"), parameter.get("name")) for parameter in operation.get("parameters", [])
        }
        names = getattr(self.view, "query_parameters", {}).get(self.method, ())
        for name in names:
            if ("query", name) not in declared:
                operation.setdefault("parameters", []).append(
                    {"in": "query", "name": name, "schema": {"type": "string"}}
                )
        return operation


class StrictFieldSchema(OpenApiSerializerFieldExtension):  # type: ignore[no-untyped-call]
    """Our fields describe themselves."""

    target_class = "rest.fields.StrictField"
    match_subclasses = True

    def map_serializer_field(self, auto_schema: Any, direction: Any) -> dict[str, Any]:
        described: dict[str, Any] = self.target.openapi()
        return described
