"""From a task type's JSON Schema to the fields of a form, and from what was typed back to params.

Plain rules: no Django. A property becomes the simplest field that can express it; what no simple
field can (nested objects, mixed alternatives) becomes a box that takes JSON. The server's check of
the params stays the judge: this module only refuses what it cannot read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rest.errors import BadRequest, FieldError
from rest.strict_json import parse_json

PREFIX = "params"
WHOLE = "/params"
_SCALARS = {"integer": "integer", "number": "number", "boolean": "boolean"}
_BESIDE_TEXT = {"string", "array", "object", "null"}
_LONG = 200
"""A text whose schema allows more characters than this gets a box of several lines."""


@dataclass(slots=True)
class Field:
    """One field of the form.

    ``kind``: ``text``, ``lines`` (long text), ``integer``, ``number``, ``boolean``, ``choice``,
    ``list`` (one text per line), ``json``, or ``mixed`` (text, or JSON when it is an array or
    object). ``pointer`` is where the server reports errors; ``value`` is what the box shows.
    """

    name: str
    pointer: str
    kind: str
    label: str
    help: str = ""
    required: bool = False
    nullable: bool = False
    default: Any = None
    value: str = ""
    choices: list[tuple[str, str]] = field(default_factory=list)
    minimum: float | None = None
    maximum: float | None = None
    max_length: int | None = None
    errors: list[str] = field(default_factory=list)

    @property
    def html_id(self) -> str:
        """Return the id of the form control."""
        return "field-" + self.name.replace(".", "-")

    @property
    def checked(self) -> bool:
        """Tell whether a boolean's box is ticked."""
        return self.value == "true"

    @property
    def multiline(self) -> bool:
        """Tell whether the control is a text area."""
        return self.kind in {"lines", "list", "json", "mixed"}

    @property
    def monospace(self) -> bool:
        """Tell whether the control holds code rather than prose."""
        return self.kind in {"list", "json", "mixed"}


def fields_of(schema: Mapping[str, Any]) -> list[Field]:
    """Return the fields of an object schema, required ones first, else in the author's order.

    A schema without properties that still takes some is one JSON box for the params as a whole.
    """
    properties = schema.get("properties")
    if not isinstance(properties, Mapping) or not properties:
        if schema.get("additionalProperties") is False:
            return []
        return [Field(PREFIX, WHOLE, "json", "Params", "A JSON object.", value="{}", default={})]
    needed = set(schema.get("required", ()))
    fields = [
        _field(str(name), part, schema, required=name in needed)
        for name, part in properties.items()
        if isinstance(part, Mapping)
    ]
    places = {f"{PREFIX}.{name}": _place(part) for name, part in properties.items()}
    return sorted(fields, key=lambda item: (not item.required, places[item.name]))


def _place(part: Any) -> float:
    """Return a property's place as its author had it; last where none was published."""
    place = part.get("x-order") if isinstance(part, Mapping) else None
    return place if isinstance(place, int) else math.inf


def _field(name: str, part: Mapping[str, Any], root: Mapping[str, Any], *, required: bool) -> Field:
    resolved, nullable = _simplest(part, root)
    kind, choices = _kind(resolved, root)
    default = part.get("default", resolved.get("default"))
    made = Field(
        name=f"{PREFIX}.{name}",
        pointer=f"{WHOLE}/{escape(name)}",
        kind=kind,
        label=str(resolved.get("title") or part.get("title") or name),
        help=str(part.get("description") or resolved.get("description") or ""),
        required=required,
        nullable=nullable,
        default=default,
        choices=choices,
        minimum=_number(resolved.get("minimum")),
        maximum=_number(resolved.get("maximum")),
        max_length=_length(resolved.get("maxLength")),
    )
    made.value = shown(made.kind, default)
    return made


def _simplest(part: Mapping[str, Any], root: Mapping[str, Any]) -> tuple[Mapping[str, Any], bool]:
    """Follow local references and take "or null" away; return the schema and whether null is one."""
    part = _follow(part, root)
    for word in ("anyOf", "oneOf"):
        options = part.get(word)
        if isinstance(options, list):
            real = [o for o in options if isinstance(o, Mapping) and o.get("type") != "null"]
            if len(real) == 1:
                inner = _follow(real[0], root)
                return {**inner, **{k: v for k, v in part.items() if k != word}}, len(options) > 1
            return part, len(real) < len(options)
    kinds = part.get("type")
    if isinstance(kinds, list):
        real_kinds = [kind for kind in kinds if kind != "null"]
        if len(real_kinds) == 1:
            return {**part, "type": real_kinds[0]}, "null" in kinds
    return part, False


def _follow(part: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    """Resolve ``$ref`` within the document, a few steps at most; others stay as they are."""
    for _ in range(4):
        reference = part.get("$ref")
        if not isinstance(reference, str) or not reference.startswith("#/"):
            return part
        target: Any = root
        for token in reference[2:].split("/"):
            target = target.get(token) if isinstance(target, Mapping) else None
        if not isinstance(target, Mapping):
            return part
        part = {**target, **{key: value for key, value in part.items() if key != "$ref"}}
    return part


def _kind(part: Mapping[str, Any], root: Mapping[str, Any]) -> tuple[str, list[tuple[str, str]]]:
    options = part.get("enum", [part["const"]] if "const" in part else None)
    if isinstance(options, list) and options:
        return "choice", [(dumps(option), _words(option)) for option in options]
    kinds = _types(part, root)
    if len(kinds) != 1:
        # Text beside structures: what begins like JSON is read as that, everything else is text.
        return ("mixed" if "string" in kinds and kinds <= _BESIDE_TEXT else "json"), []
    kind = next(iter(kinds))
    if kind == "string":
        length = _length(part.get("maxLength"))
        return ("lines" if length is not None and length > _LONG else "text"), []
    if kind == "array":
        items = part.get("items")
        inner = _follow(items, root) if isinstance(items, Mapping) else {}
        plain = _types(inner, root) == {"string"} and "enum" not in inner
        return ("list" if plain else "json"), []
    return _SCALARS.get(kind, "json"), []


def _types(part: Mapping[str, Any], root: Mapping[str, Any]) -> set[str]:
    """Return the names of the JSON types that a schema allows, as far as it says so."""
    for word in ("anyOf", "oneOf"):
        options = part.get(word)
        if isinstance(options, list):
            inner = [_follow(option, root) for option in options if isinstance(option, Mapping)]
            return {str(option.get("type", "?")) for option in inner}
    kinds = part.get("type", [])
    return {str(kind) for kind in (kinds if isinstance(kinds, list) else [kinds])}


def read_params(
    fields: Iterable[Field], posted: Mapping[str, str]
) -> tuple[dict[str, Any], list[FieldError]]:
    """Read what was typed. Fields keep it in ``value``; what equals the default is left out.

    Unreadable or missing input is reported with the pointer that the server would use.
    """
    params: dict[str, Any] = {}
    errors: list[FieldError] = []
    for item in fields:
        typed = posted.get(item.name, "")
        item.value = ("true" if typed else "false") if item.kind == "boolean" else typed
        if not item.value.strip():
            if item.required and item.kind != "list":
                errors.append(FieldError(item.pointer, "required", "This is needed."))
            elif item.required:
                params[_key(item)] = []
            continue
        try:
            value = _read(item)
        except ValueError as error:
            errors.append(FieldError(item.pointer, "invalid", str(error)))
            continue
        if item.pointer == WHOLE:
            if isinstance(value, dict):
                params.update(value)
            else:
                errors.append(FieldError(WHOLE, "type", "Params are a JSON object."))
        elif item.required or value != item.default or type(value) is not type(item.default):
            params[_key(item)] = value
    return params, errors


def _read(item: Field) -> Any:
    text = item.value
    if item.kind == "boolean":
        return text == "true"
    if item.kind == "list":
        return [line for line in text.replace("\r\n", "\n").split("\n") if line]
    if item.kind == "integer":
        return _whole(text)
    if item.kind == "number":
        return _decimal(text)
    if item.kind == "mixed":
        looks_like_json = text.lstrip()[:1] in ("[", "{")
        return _json(text) if looks_like_json else text.replace("\r\n", "\n")
    if item.kind in {"json", "choice"}:
        return _json(text)
    return text.replace("\r\n", "\n")


def _whole(text: str) -> int:
    stripped = text.strip()
    if not stripped.isascii() or not stripped.removeprefix("-").isdigit() or len(stripped) > 18:
        raise ValueError("Give a whole number.")
    return int(stripped)


def _decimal(text: str) -> float | int:
    try:
        number = float(text.strip())
    except ValueError:
        raise ValueError("Give a number.") from None
    if not math.isfinite(number):
        raise ValueError("Give a number.")
    return int(number) if number.is_integer() and abs(number) < 2**53 else number


def _json(text: str) -> Any:
    try:
        return parse_json(text.encode("utf-8", "surrogatepass"))
    except BadRequest as refusal:
        detail = refusal.errors[0].detail if refusal.errors else refusal.detail
        raise ValueError(detail) from None


def place_errors(fields: Iterable[Field], errors: Iterable[FieldError]) -> list[FieldError]:
    """Put each error at the field whose pointer is the longest prefix of its own; return the rest."""
    by_length = sorted(fields, key=lambda item: len(item.pointer), reverse=True)
    rest = []
    for error in errors:
        for item in by_length:
            if error.pointer == item.pointer or error.pointer.startswith(item.pointer + "/"):
                inside = error.pointer[len(item.pointer) :]
                item.errors.append(f"{inside}: {error.detail}" if inside else error.detail)
                break
        else:
            rest.append(error)
    return rest


def fill(fields: Iterable[Field], params: Mapping[str, Any]) -> None:
    """Show ``params`` in the fields (a link that carries them, or a task to repeat)."""
    for item in fields:
        if item.pointer == WHOLE:
            item.value = json.dumps(params, indent=2, ensure_ascii=False)
        elif _key(item) in params:
            item.value = shown(item.kind, params[_key(item)])


def shown(kind: str, value: Any) -> str:
    """Return the text that a field of this kind shows for a value; nothing for null."""
    if kind == "boolean":
        return "true" if value is True else "false"
    if kind == "choice":
        return "" if value is None else dumps(value)
    if value is None:
        return ""
    if kind == "list" and isinstance(value, list):
        return "\n".join(str(line) for line in value)
    if isinstance(value, str):
        return value
    if kind == "json":
        return json.dumps(value, indent=2, ensure_ascii=False)
    return dumps(value)


def escape(token: str) -> str:
    """Return one part of a JSON Pointer (RFC 6901)."""
    return token.replace("~", "~0").replace("/", "~1")


def dumps(value: Any) -> str:
    """Return compact JSON."""
    return json.dumps(value, ensure_ascii=False)


def _key(item: Field) -> str:
    return item.name.removeprefix(f"{PREFIX}.")


def _words(option: Any) -> str:
    return option if isinstance(option, str) else dumps(option)


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _length(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
