"""The OpenAPI document and its page."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.tenants.callers import World


@pytest.fixture
def schema(world: World) -> dict[str, Any]:
    answer = world.token().get("/api/v1/schema")
    assert answer.status_code == 200
    result: dict[str, Any] = answer.json()
    return result


def test_the_document_is_openapi_3_1_and_is_made_without_a_warning(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = world.token().get("/api/v1/schema")
    assert answer.json()["openapi"].startswith("3.1")
    told = capsys.readouterr().err
    assert "Warning" not in told
    assert "Error" not in told


def test_every_operation_says_who_may_call_it_and_what_an_error_is(
    schema: dict[str, Any],
) -> None:
    operations = [
        (path, operation)
        for path, item in schema["paths"].items()
        for method, operation in item.items()
        if method != "parameters"
    ]
    assert len(operations) > 15
    for path, operation in operations:
        assert {"token": []} in operation["security"], path
        assert "application/problem+json" in operation["responses"]["default"]["content"], path


def test_parameters_and_bodies_are_described(schema: dict[str, Any]) -> None:
    listing = schema["paths"]["/api/v1/tenants/{tenant}/tokens"]["get"]
    assert {"limit", "cursor", "tenant"} <= {item["name"] for item in listing["parameters"]}
    body = schema["components"]["schemas"]["TokenBodyRequest"]
    assert body["properties"]["name"]["maxLength"] == 100
    assert set(body["required"]) == {"name", "scopes"}


def test_the_page_loads_nothing_from_elsewhere(world: World) -> None:
    page = world.token().get("/api/v1/docs", Accept="text/html")
    assert page.status_code == 200
    text = page.content.decode()
    assert "swagger" in text
    assert not re.findall(r"""(?:src|href)=["'](?:https?:)?//""", text)


@pytest.mark.parametrize("path", ["/api/v1/schema", "/api/v1/docs"])
def test_strangers_see_neither(world: World, path: str) -> None:
    answer = world.anonymous().get(path)
    assert answer.status_code == 401
    assert answer.json()["code"] == "not_authenticated"
    assert world.token().get(f"{path}?format=yaml").status_code in (400, 406)
