"""What workers publish of their handlers: versions, retry policies, and the order of params."""

from __future__ import annotations

import re
from typing import Any

import pytest

from switchyard.errors import HandlerDefinitionError
from switchyard.handler import LIMITS, Declaration, declared, handler
from switchyard.specification import specify
from web.schema_form import fields_of
from workers.publishing import described_types, with_order


def declaration(**options: Any) -> Declaration:
    def behave(run: Any, params: Any) -> None:
        """Do nothing."""

    handler("test.published", **options)(behave)
    return declared.pop("test.published")


def test_params_keep_their_authors_order_through_a_table_that_sorts_keys() -> None:
    names = ["zebra", "ant", "mouse"]
    schema = {
        "type": "object",
        "properties": {
            **{name: {"type": "string"} for name in names},
            "inner": {"type": "object", "properties": {"b": {}, "a": {}}},
        },
        "required": ["mouse"],
    }
    published = with_order(schema)
    assert published["properties"]["inner"]["properties"]["a"]["x-order"] == 1
    stored = {**published, "properties": dict(sorted(published["properties"].items()))}
    labels = [field.label for field in fields_of(stored)]
    assert labels == ["mouse", "zebra", "ant", "inner"]


def test_the_built_in_types_are_published_with_version_and_policy() -> None:
    shell = described_types()["shell.command"]
    assert shell["version"] == 1
    assert shell["retry"]["never_on"] == ()
    first = min(shell["params_schema"]["properties"].items(), key=lambda pair: pair[1]["x-order"])
    assert first[0] == "command"


def test_a_handler_declares_its_version_and_which_errors_are_tried_again() -> None:
    spec = specify(declaration(version=3, retry={"delay": 1, "never_on": ["bad_input"]}))
    assert spec.version == 3
    assert (spec.retry["delay"], spec.retry["factor"], spec.retry["never_on"]) == (1, 2, ["bad_input"])


def test_a_handler_may_declare_every_limit_that_its_docstring_names() -> None:
    told = " ".join(str(handler.__doc__).split())
    documented = told.partition("`limits` may hold")[2].partition(".")[0]
    assert re.findall(r"`(\w+)`", documented) == list(LIMITS)
    spec = specify(declaration(limits=dict.fromkeys(LIMITS, 64)))
    assert spec.limits == dict.fromkeys(LIMITS, 64)


@pytest.mark.parametrize(
    "options",
    [
        {"version": 0},
        {"version": "2"},
        {"retry": {"dealy": 1}},
        {"limits": {"memory": 64}},
        {"limits": {"open_files": 31}},
    ],
)
def test_a_wrong_version_policy_or_limit_is_refused_where_it_is_written(options: dict[str, Any]) -> None:
    with pytest.raises(HandlerDefinitionError):
        declaration(**options)
