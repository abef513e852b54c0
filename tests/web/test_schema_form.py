"""A form made from a JSON Schema reads back what was typed as the JSON that the schema means."""

from __future__ import annotations

from typing import Any

import pytest

from rest.errors import FieldError
from web.schema_form import Field, fields_of, fill, place_errors, read_params


def one(part: dict[str, Any], *, required: bool = False, **more: Any) -> Field:
    schema = {"type": "object", "properties": {"it": part}, **more}
    if required:
        schema["required"] = ["it"]
    (field,) = fields_of(schema)
    return field


@pytest.mark.parametrize(
    ("part", "kind"),
    [
        ({"type": "string"}, "text"),
        ({"type": "string", "maxLength": 5000}, "lines"),
        ({"type": "integer"}, "integer"),
        ({"type": "number"}, "number"),
        ({"type": "boolean"}, "boolean"),
        ({"enum": ["a", "b"]}, "choice"),
        ({"const": 3}, "choice"),
        ({"type": "array", "items": {"type": "string"}}, "list"),
        ({"type": "array", "items": {"type": "integer"}}, "json"),
        ({"type": "array"}, "json"),
        ({"type": "object"}, "json"),
        ({"type": ["string", "null"]}, "text"),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, "integer"),
        ({"anyOf": [{"type": "array"}, {"type": "string"}]}, "mixed"),
        ({"anyOf": [{"type": "integer"}, {"type": "string"}]}, "json"),
        ({"type": ["string", "array"]}, "mixed"),
        ({"type": ["string", "integer", "null"]}, "json"),
        ({"type": ["array"], "items": {"type": ["string"]}}, "list"),
        ({"anyOf": [{"type": ["string", "array"]}, {"type": "object"}]}, "json"),
        ({"type": 7, "enum": "x", "items": 3, "maxLength": "y"}, "json"),
        ({}, "json"),
    ],
)
def test_each_schema_gets_the_simplest_field_that_can_express_it(
    part: dict[str, Any], kind: str
) -> None:
    assert one(part).kind == kind


def test_a_local_reference_is_followed_and_a_remote_one_is_not() -> None:
    local = one({"$ref": "#/$defs/N"}, **{"$defs": {"N": {"type": "integer"}}})
    remote = one({"$ref": "https://schemas.example/n.json"})
    endless = one({"$ref": "#/$defs/N"}, **{"$defs": {"N": {"$ref": "#/$defs/N"}}})
    assert (local.kind, remote.kind, endless.kind) == ("integer", "json", "json")


@pytest.mark.parametrize(
    ("part", "typed", "value"),
    [
        ({"type": "string"}, " as it is ", " as it is "),
        ({"type": "integer"}, " -7 ", -7),
        ({"type": "number"}, "1.5", 1.5),
        ({"type": "number"}, "2", 2),
        ({"type": "boolean"}, "true", True),
        ({"enum": ["a", 2]}, "2", 2),
        ({"enum": ["a", 2]}, '"a"', "a"),
        ({"type": "array", "items": {"type": "string"}}, "one\r\ntwo words\n", ["one", "two words"]),
        ({"type": "object"}, '{"a": [1]}', {"a": [1]}),
        ({"anyOf": [{"type": "array"}, {"type": "string"}]}, '["ls", "-l"]', ["ls", "-l"]),
        ({"anyOf": [{"type": "array"}, {"type": "string"}]}, "ls -l | wc", "ls -l | wc"),
    ],
)
def test_what_is_typed_becomes_the_json_that_the_schema_means(
    part: dict[str, Any], typed: str, value: Any
) -> None:
    params, errors = read_params([one(part)], {"params.it": typed})
    assert (params, errors) == ({"it": value}, [])
    assert type(params["it"]) is type(value)


@pytest.mark.parametrize(
    ("part", "typed"),
    [
        ({"type": "integer"}, "1.5"),
        ({"type": "integer"}, "٣"),
        ({"type": "integer"}, "9" * 30),
        ({"type": "number"}, "nan"),
        ({"type": "number"}, "1e999"),
        ({"type": "object"}, "{"),
        ({"type": "object"}, '{"a": NaN}'),
        ({"type": "object"}, "[" * 100_000),
        ({"enum": ["a"]}, "a"),
    ],
)
def test_what_cannot_be_read_is_refused_at_its_field(part: dict[str, Any], typed: str) -> None:
    params, errors = read_params([one(part)], {"params.it": typed})
    assert params == {}
    assert [error.pointer for error in errors] == ["/params/it"]


def test_what_equals_the_default_is_left_out_and_what_is_empty_too() -> None:
    fields = fields_of(
        {
            "properties": {
                "count": {"type": "integer", "default": 1},
                "flag": {"type": "boolean", "default": True},
                "note": {"type": "string"},
            }
        }
    )
    assert read_params(fields, {"params.count": "1", "params.flag": "true"})[0] == {}
    # An unticked box is not posted at all, and means false.
    assert read_params(fields, {"params.count": "1"})[0] == {"flag": False}


def test_a_needed_field_that_is_empty_says_so() -> None:
    _, errors = read_params([one({"type": "string"}, required=True)], {"params.it": " "})
    assert errors == [FieldError("/params/it", "required", "This is needed.")]


def test_a_schema_without_properties_is_one_box_for_all_params() -> None:
    fields = fields_of({"type": "object"})
    assert read_params(fields, {"params": '{"any": "thing"}'})[0] == {"any": "thing"}
    assert read_params(fields, {"params": "[1]"})[1][0].pointer == "/params"
    assert fields_of({"type": "object", "additionalProperties": False}) == []


def test_an_error_goes_to_the_field_with_the_longest_pointer_and_escapes_are_understood() -> None:
    fields = fields_of({"properties": {"a": {"type": "object"}, "a/b": {"type": "string"}}})
    rest = place_errors(
        fields,
        [
            FieldError("/params/a/x", "type", "inside"),
            FieldError("/params/a~1b", "type", "other"),
            FieldError("/queue", "x", "elsewhere"),
        ],
    )
    by_name = {field.name: field.errors for field in fields}
    assert by_name == {"params.a": ["/x: inside"], "params.a/b": ["other"]}
    assert [error.pointer for error in rest] == ["/queue"]


def test_params_that_are_given_are_shown() -> None:
    fields = fields_of({"properties": {"n": {"type": "integer"}, "o": {"type": "object"}}})
    fill(fields, {"n": 3, "o": {"k": 1}, "unknown": 1})
    assert read_params(fields, {field.name: field.value for field in fields})[0] == {
        "n": 3,
        "o": {"k": 1},
    }
