"""The task types that this worker can run: built-in ones and those of installed packages.

A package offers handlers by an entry point in the group `switchyard.handlers`, whose value is a
module. One that is broken is reported and left out: the others still run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError

from switchyard.errors import HandlerDefinitionError
from switchyard.handler import Declaration, declared
from switchyard.specification import HandlerSpec, specify

GROUP = "switchyard.handlers"
BUILT_IN = ("workers.handlers.shell", "workers.handlers.http")
FOR_TESTS = "workers.handlers.dummy"
NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+", re.ASCII)
NAME_CAP = 100
SCHEMA_NODES = 10_000


@dataclass(frozen=True, slots=True)
class Handlers:
    """Every usable task type by name, and one sentence for each thing that was left out."""

    types: Mapping[str, HandlerSpec]
    problems: tuple[str, ...]


def handler_modules(test_types: bool = False) -> dict[str, str]:
    """Return the modules that handlers come from, each with where that is said; imports none of them."""
    wanted: dict[str, str] = dict.fromkeys(BUILT_IN, "built in")
    if test_types:
        wanted[FOR_TESTS] = "built in"
    for point in entry_points(group=GROUP):
        wanted.setdefault(point.value.partition(":")[0], f"package {point.name}")
    return wanted


def load(test_types: bool = False) -> Handlers:
    """Import all handlers and check what they declare; never raises for a bad package."""
    problems: list[str] = []
    wanted = handler_modules(test_types)
    for module, origin in wanted.items():
        before = dict(declared)
        try:
            import_module(module)
        except (Exception, SystemExit) as error:  # a package's import may do anything
            declared.clear()
            declared.update(before)
            problems.append(f"Handlers in {module} ({origin}) cannot be loaded: {error}")
    types: dict[str, HandlerSpec] = {}
    for name, declaration in sorted(declared.items()):
        if not _belongs(declaration, wanted):
            continue
        try:
            types[name] = checked(specify(declaration))
        except Exception as error:  # making a schema runs the package's code
            problems.append(f"Task type {name!r} is left out: {error}")
    return Handlers(types, tuple(problems))


def checked(spec: HandlerSpec) -> HandlerSpec:
    """The specification itself, once its name and its schema are usable; HandlerDefinitionError."""
    if NAME.fullmatch(spec.name) is None or len(spec.name) > NAME_CAP:
        raise HandlerDefinitionError(
            f"{spec.name!r} is no name for a task type; use two or more lower case words joined "
            f"by dots, such as metadata.validate."
        )
    check_schema(spec.params_schema)
    return spec


def check_schema(schema: Mapping[str, Any]) -> None:
    """Refuse a params schema that is invalid, describes no object, is huge, or points elsewhere."""
    if schema.get("type") != "object":
        raise HandlerDefinitionError('A params schema must have "type": "object".')
    nodes: list[Any] = [schema]
    seen = 0
    while nodes:
        node = nodes.pop()
        seen += 1
        if seen > SCHEMA_NODES:
            raise HandlerDefinitionError("A params schema may have 10,000 nodes at most.")
        if isinstance(node, dict):
            for key in ("$ref", "$dynamicRef"):
                reference = node.get(key)
                if isinstance(reference, str) and not reference.startswith("#"):
                    raise HandlerDefinitionError(
                        f"A params schema may not refer to {reference!r}: nothing is fetched. "
                        f"Put the definition under $defs."
                    )
            nodes.extend(node.values())
        elif isinstance(node, list):
            nodes.extend(node)
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise HandlerDefinitionError(f"The params schema is invalid: {error.message}") from None


def _belongs(declaration: Declaration, wanted: Mapping[str, str]) -> bool:
    """Whether a handler comes from a module that was asked for, or from below one."""
    module = declaration.function.__module__
    return any(module == each or module.startswith(f"{each}.") for each in wanted)
