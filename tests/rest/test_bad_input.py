"""The rows of the table "Bad input" that the frame answers, sent to a real address."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest
from django.core.handlers.asgi import ASGIRequest

from rest.errors import TooLarge
from rest.parsing import read_body
from tenants.models import ApiToken
from tests.tenants.callers import World

TOKENS = "/api/v1/tenants/acme/tokens"
GOOD = {"name": "ci", "scopes": ["tasks:read"]}


def problem(response: Any, status: int) -> dict[str, Any]:
    """Check that the answer is a problem of this status; return it."""
    assert response.status_code == status, response.content
    assert response["Content-Type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert {"type", "title", "status", "detail", "code", "instance"} <= set(body)
    assert body["status"] == status
    assert body["instance"] == response["X-Request-ID"]
    return body


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b'"x"',
        b"7",
        b"null",
        b"{}",
        b"nonsense",
        b'\xef\xbb\xbf{"name": "ci"}',
        '{"name": "ci"}'.encode("utf-16"),
        b"[" * 100_000,
        b'{"name": "a\\u0000b", "scopes": ["tasks:read"]}',
        b'{"name": "\\ud800", "scopes": ["tasks:read"]}',
        b'{"name": "ci", "name": "ci", "scopes": ["tasks:read"]}',
        b'{"\\u0000": 1}',
        b'{"name": "ci", "scopes": ["tasks:read"], "expires_in": 1e999}',
        b'{"name": "ci", "scopes": ["tasks:read"], "expires_in": ' + b"1" * 5000 + b"}",
    ],
)
def test_a_bad_body_is_a_400_and_stores_nothing(world: World, raw: bytes) -> None:
    caller = world.token()
    before = ApiToken.objects.count()
    problem(caller.send("POST", TOKENS, raw=raw), 400)
    assert ApiToken.objects.count() == before


@pytest.mark.parametrize(
    ("change", "pointer", "code"),
    [
        ({"name": "   "}, "/name", "blank"),
        ({"name": "\u202eevil"}, "/name", "character_refused"),
        ({"name": "zero\u200bwidth"}, "/name", "character_refused"),
        ({"name": "\x1b[31mred"}, "/name", "character_refused"),
        ({"name": "line\nbreak"}, "/name", "character_refused"),
        ({"name": "x" * 101}, "/name", "max_length"),
        ({"name": 7}, "/name", "type"),
        ({"name": None}, "/name", "null"),
        ({"scopes": "tasks:read"}, "/scopes", "not_a_list"),
        ({"scopes": []}, "/scopes", "min_length"),
        ({"scopes": ["tasks:read", 7]}, "/scopes/1", "type"),
        ({"scopes": ["tasks:read", "world:rule"]}, "/scopes/1", "unknown_scope"),
        ({"expires_in": "nan"}, "/expires_in", "type"),
        ({"expires_in": True}, "/expires_in", "type"),
        ({"expires_in": " 7 "}, "/expires_in", "type"),
        ({"expires_in": -1}, "/expires_in", "above"),
        ({"id": "x"}, "/id", "unknown_field"),
        ({"tenant": "other"}, "/tenant", "unknown_field"),
        ({"created_by": "user:root"}, "/created_by", "unknown_field"),
        ({"operator": True}, "/operator", "unknown_field"),
        ({"a/b": 1}, "/a~1b", "unknown_field"),
    ],
)
def test_a_wrong_field_is_pointed_at(
    world: World, change: dict[str, Any], pointer: str, code: str
) -> None:
    body = problem(world.token().post(TOKENS, {**GOOD, **change}), 400)
    assert (pointer, code) in [(error["pointer"], error["code"]) for error in body["errors"]]


def test_a_body_over_the_limit_is_413_with_and_without_a_declared_length(world: World) -> None:
    caller = world.token()
    big = b'{"name": "' + b"x" * 3_000_000 + b'"}'
    assert "uploa" in problem(caller.send("POST", TOKENS, raw=big), 413)["detail"]
    answer = caller.client.generic(
        "POST",
        TOKENS,
        big,
        "application/json",
        headers=caller.headers,
        CONTENT_LENGTH=str(10**30),
    )
    problem(answer, 413)


@pytest.mark.parametrize(("size", "fine"), [(1024, True), (3_000_000, False)])
def test_a_body_in_chunks_is_read_up_to_the_limit(size: int, fine: bool) -> None:
    scope = {
        "type": "http",
        "method": "POST",
        "path": TOKENS,
        "query_string": b"",
        "headers": [(b"transfer-encoding", b"chunked"), (b"content-type", b"application/json")],
    }
    raw = b'"' + b"x" * (size - 2) + b'"'
    request = ASGIRequest(scope, BytesIO(raw))
    if fine:
        assert read_body(request) == raw
    else:
        with pytest.raises(TooLarge):
            read_body(request)


@pytest.mark.parametrize(
    ("content_type", "headers"),
    [
        ("text/plain", {}),
        ("application/xml", {}),
        ("application/x-www-form-urlencoded", {}),
        ("multipart/form-data; boundary=x", {}),
        ("application/json; charset=utf-99", {}),
        ("application/json; charset=latin-1", {}),
        ("application/json", {"Content_Encoding": "gzip"}),
        ("application/json", {"Content_Encoding": "br"}),
    ],
)
def test_another_type_charset_or_encoding_is_415(
    world: World, content_type: str, headers: dict[str, str]
) -> None:
    answer = world.token().send("POST", TOKENS, raw=b'{"a": 1}', content_type=content_type, **headers)
    problem(answer, 415)


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("format=exe", "query:format"),
        ("format=json", "query:format"),
        ("limit=0", "query:limit"),
        ("limit=-1", "query:limit"),
        ("limit=201", "query:limit"),
        ("limit=abc", "query:limit"),
        ("limit=", "query:limit"),
        ("limit=+5", "query:limit"),
        ("limit=05", "query:limit"),
        ("limit=%D9%A1", "query:limit"),
        ("limit=1&limit=1", "query:limit"),
        ("page_size=1000000", "query:page_size"),
        ("ordering=password", "query:ordering"),
        ("tenant__x=1", "query:tenant__x"),
        ("slug=a%00b", "query:slug"),
        ("cursor=%00", "query:cursor"),
        ("cursor=", "query:cursor"),
        ("cursor=abc", "query:cursor"),
        ("cursor=%FF", "query:"),
    ],
)
def test_an_unknown_repeated_or_wrong_parameter_is_400(world: World, query: str, pointer: str) -> None:
    body = problem(world.token().get(f"{TOKENS}?{query}"), 400)
    assert pointer in [error["pointer"] for error in body["errors"]]


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/nothing",
        "/api/v1/me/",
        "/api/v1//me",
        "/api/v2/me",
        f"{TOKENS}/1",
        f"{TOKENS}/%D9%A1",
        f"{TOKENS}/%0a1",
        f"{TOKENS}/01a1fc7b-66ee-76c8-aeb8-e6e146e1ee2c%0a",
        f"{TOKENS}/01a1fc7b-66ee-76c8-aeb8-e6e146e1ee2c",
        "/api/v1/tenants/ACME/tokens",
        "/api/v1/tenants/%00/tokens",
        "/api/v1/tenants/other/tokens",
        "/api/v1/tenants/nobody/tokens",
        "/api/v1/tenants/acme/members/carol",
        "/api/v1/tenants/acme/members/a%00b",
    ],
)
def test_foreign_unknown_and_malformed_look_alike(world: World, path: str) -> None:
    body = problem(world.token().get(path), 404)
    body.pop("instance")
    assert body == {
        "type": "urn:switchyard:problem:not_found",
        "title": "Not found",
        "status": 404,
        "detail": "There is no such thing here, or you may not see it.",
        "code": "not_found",
    }


def test_a_method_override_header_is_ignored(world: World) -> None:
    answer = world.token().send("DELETE", "/api/v1/me", X_HTTP_Method_Override="GET")
    problem(answer, 405)
    assert answer["Allow"] == "GET, HEAD, OPTIONS"


@pytest.mark.parametrize("method", ["TRACE", "PROPFIND", "POST", "PUT", "PATCH"])
def test_a_method_that_an_address_does_not_take_is_405(world: World, method: str) -> None:
    problem(world.token().send(method, "/api/v1/me"), 405)


def test_the_tenant_comes_from_the_credential_and_not_from_a_header(world: World) -> None:
    answer = world.token().get("/api/v1/me", X_Tenant_ID="other", X_Forwarded_For="1.1.1.1")
    assert [tenant["slug"] for tenant in answer.json()["tenants"]] == ["acme"]


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        ("*/*", 200),
        ("application/json", 200),
        ("application/json; indent=4", 200),
        ("application/*;q=0.5, text/html", 200),
        ("application/problem+json", 200),
        ("text/html,application/xhtml+xml,*/*;q=0.8", 200),
        ("image/png", 406),
        ("application/json;q=0", 406),
        ("application/json;q=0, */*", 406),
        ("nonsense", 406),
    ],
)
def test_the_accept_header_is_honoured(world: World, accept: str, status: int) -> None:
    answer = world.token().get("/api/v1/me", Accept=accept)
    assert answer.status_code == status
    if status != 200:
        problem(answer, status)


def test_head_and_options_say_no_more_than_they_should(world: World) -> None:
    caller = world.token()
    head = caller.send("HEAD", TOKENS)
    assert (head.status_code, head.content) == (200, b"")
    options = caller.send("OPTIONS", TOKENS)
    assert (options.status_code, options.content) == (204, b"")
    assert options["Allow"] == "GET, POST, HEAD, OPTIONS"
    assert world.anonymous().send("OPTIONS", TOKENS).status_code == 401
    assert caller.send("OPTIONS", "/api/v1/tenants/other/tokens").status_code == 404
