"""Checking params against a task type's JSON Schema.

Always with an empty registry: jsonschema's default would fetch remote ``$ref``s, which lets a
schema make requests from inside the platform.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match
from referencing import Registry

from rest.errors import FieldError
from rest.strict_json import pointer_token
from tasks.errors import BadParams

MAX_ERRORS = 20


@lru_cache(maxsize=256)
def _validator(schema: str) -> Draft202012Validator:
    return Draft202012Validator(json.loads(schema), registry=Registry())


def check_params(schema: dict[str, Any], params: dict[str, Any], *, at: str = "/params") -> None:
    """Check ``params`` against ``schema``.

    Raises:
        BadParams: with a JSON Pointer below ``at`` for each violation.
    """
    validator = _validator(json.dumps(schema, sort_keys=True))
    found = []
    for error in validator.iter_errors(params):
        deepest = best_match([error]) or error
        pointer = at + "".join(f"/{pointer_token(part)}" for part in deepest.absolute_path)
        found.append(FieldError(pointer, str(deepest.validator), _sentence(_message(deepest))))
        if len(found) >= MAX_ERRORS:
            break
    if found:
        raise BadParams("The params do not match the task type's schema.", errors=found)


def _message(error: ValidationError) -> str:
    """Return what is wrong; of a pattern in the type's own words, since few read one."""
    described = error.schema.get("description") if isinstance(error.schema, dict) else None
    if error.validator == "pattern" and described:
        return f"This does not fit: {described}"
    return str(error.message)


def _sentence(message: str) -> str:
    return message if len(message) <= 300 else message[:297] + "..."
