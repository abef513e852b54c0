"""The door of a tenant: for tokens, members and operators."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from audit.models import AuditEntry
from tenants.access import enter
from tenants.actor import SYSTEM, Actor
from tenants.authentication import authenticate_session
from tenants.scopes import SCOPES, expand, scopes_of
from tenants.services import tenant_create, token_issue
from tests.tenants.callers import World

ACME = "/api/v1/tenants/acme"


@pytest.mark.parametrize("path", [ACME, ACME + "/"])
def test_a_member_sees_role_scopes_and_limits(world: World, path: str) -> None:
    shown = world.user("bob").get(path).json()
    assert (shown["slug"], shown["role"]) == ("acme", "viewer")
    assert shown["scopes"] == sorted(scopes_of("viewer"))
    assert shown["limits"]["queues"]["critical"] == {
        "running": None,
        "min_running": None,
        "queued": None,
    }


def test_roles_hold_what_the_rules_say() -> None:
    assert all(scope.endswith(":read") for scope in scopes_of("viewer"))
    assert scopes_of("viewer") < scopes_of("member") < scopes_of("admin")
    assert {"tasks:write", "kv:write"} <= scopes_of("member")
    assert not {"tasks:admin", "kv:delete", "tokens:write", "secrets:write"} & scopes_of("member")
    assert scopes_of("admin") == SCOPES == expand(scopes_of("owner"))
    assert scopes_of("unknown") == frozenset()


def test_the_list_of_tenants_is_the_callers(world: World) -> None:
    def slugs(caller: Any) -> list[str]:
        return [tenant["slug"] for tenant in caller.get("/api/v1/tenants").json()["results"]]

    assert slugs(world.user("alice")) == ["acme"]
    assert slugs(world.token(tenant=world.other)) == ["other"]
    assert slugs(world.operator()) == ["other", "acme"]


def test_me_tells_who_the_credential_belongs_to(world: World) -> None:
    user = world.user("alice").get("/api/v1/me").json()
    assert (user["kind"], user["name"], user["user"], user["token"]) == (
        "user",
        "user:alice",
        "alice",
        None,
    )
    assert user["tenants"] == [{"slug": "acme", "name": "acme", "role": "owner", "scopes": ["*"]}]
    token = world.token("tasks:read").get("/api/v1/me").json()
    assert (token["kind"], token["name"], token["user"]) == ("token", "token:ci", None)
    assert token["tenants"][0]["scopes"] == ["tasks:read"]
    operator = world.operator().get("/api/v1/me").json()
    assert (operator["name"], operator["operator"]) == ("operator:root", True)


def test_an_operator_gives_a_reason_and_the_tenant_can_see_it(world: World) -> None:
    refused = world.operator(reason=False).get(ACME)
    assert (refused.status_code, refused.json()["code"]) == (403, "operator_reason_required")
    assert world.operator().get(ACME).json()["role"] == "operator"
    entry = AuditEntry.objects.get(action="operator.access")
    assert (entry.actor, entry.tenant_id, entry.reason) == (
        "operator:root",
        world.acme.pk,
        "a customer called",
    )


def test_an_operator_needs_no_reason_on_the_first_tenant(world: World) -> None:
    tenant_create(actor=SYSTEM, slug="demo", is_first=True)
    assert world.operator(reason=False).get("/api/v1/tenants/demo").status_code == 200
    assert world.operator().get("/api/v1/tenants/missing").status_code == 404


def test_a_reason_may_be_in_any_language_and_hides_nothing(world: World) -> None:
    caller = world.operator()
    caller.headers["X-Operator-Reason"] = "Störung".encode().decode("latin-1")
    assert caller.get(ACME).status_code == 200
    assert AuditEntry.objects.get(action="operator.access").reason == "Störung"
    caller.headers["X-Operator-Reason"] = "\u202e".encode().decode("latin-1")
    assert caller.get(ACME).status_code == 400


def test_staff_are_operators_and_members_are_not(world: World) -> None:
    User.objects.create(username="stan", is_staff=True)
    assert world.user("stan").get(ACME).status_code == 403
    assert world.user("stan").get(ACME, X_Operator_Reason="help").json()["role"] == "operator"
    assert world.user("stan").get("/api/v1/operator/tenants").status_code == 200
    assert world.user("alice").get("/api/v1/operator/tenants").status_code == 403


def test_an_inactive_user_is_nobody(world: World) -> None:
    caller = world.user("alice")
    User.objects.filter(username="alice").update(is_active=False)
    assert caller.get("/api/v1/me").status_code == 401
    assert authenticate_session(User(username="x", is_active=False)) is None


def test_a_session_needs_the_csrf_token_to_change_anything(world: World) -> None:
    caller = world.user("alice", csrf=True)
    assert caller.get(ACME).status_code == 200
    body = {"name": "x", "scopes": ["tasks:read"]}
    refused = caller.post(f"{ACME}/tokens", body)
    assert (refused.status_code, refused.json()["code"]) == (403, "csrf_failed")
    caller.client.cookies["switchyard_csrf"] = "a" * 32
    assert caller.post(f"{ACME}/tokens", body, X_CSRFToken="a" * 32).status_code == 201


def test_a_token_is_judged_without_the_cookies_beside_it(world: World) -> None:
    caller = world.user("alice", csrf=True)
    _, raw = token_issue(tenant=world.other, actor=SYSTEM, name="ci", scopes=["*"])
    caller.headers["Authorization"] = f"Bearer {raw}"
    caller.headers["Origin"] = "https://evil.example"
    assert caller.get(ACME).status_code == 404
    answer = caller.post("/api/v1/tenants/other/tokens", {"name": "x", "scopes": ["*"]})
    assert answer.status_code == 201
    assert "Access-Control-Allow-Origin" not in answer
    caller.headers["Authorization"] = "Bearer wrong"
    assert caller.get(ACME).status_code == 401


def test_an_actor_is_the_same_only_if_its_key_is() -> None:
    one = Actor(kind="token", name="token:ci", token_id=1, tenant_id=7)
    two = Actor(kind="token", name="token:ci", token_id=2, tenant_id=7)
    assert one.key != two.key
    assert one.idempotency_scope == two.idempotency_scope == "tenant:7"
    assert SYSTEM.can("anything:at-all")


def test_entering_costs_one_query_for_tokens_and_members(
    world: World, django_assert_num_queries: Any
) -> None:
    user = User.objects.get(username="mia")
    for actor in (
        Actor(kind="token", name="token:ci", tenant_id=world.acme.pk, token_id=1),
        Actor(kind="user", name="user:mia", user_id=user.pk),
    ):
        with django_assert_num_queries(1):
            tenant, inside = enter(actor, "acme")
        assert tenant == world.acme
        assert inside.tenant_id == world.acme.pk


def test_an_api_address_answers_browsers_with_a_problem_too(world: World) -> None:
    answer = Client().get("/api/v1/docs", headers={"Accept": "text/html"})
    assert (answer.status_code, answer["Content-Type"]) == (401, "application/problem+json")
