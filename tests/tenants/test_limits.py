"""Limits and tenants: set by operators, read by members."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import IntegrityError, transaction

from audit.models import AuditEntry
from tenants.actor import SYSTEM
from tenants.models import Tenant
from tenants.selectors import limits_for
from tenants.services import tenant_create
from tests.tenants.callers import World

LIMITS = "/api/v1/tenants/acme/limits"
TENANTS = "/api/v1/operator/tenants"


def test_what_is_left_out_stays_and_null_is_no_limit(world: World) -> None:
    operator = world.operator()
    first = operator.send(
        "PUT",
        LIMITS,
        {
            "running": 4,
            "weight": 2,
            "submit_per_second": 0.5,
            "queues": {"critical": {"running": 2, "min_running": 1, "queued": 10}},
        },
    )
    assert first.status_code == 200
    second = operator.send("PUT", LIMITS, {"running": None, "queues": {"critical": {"queued": 9}}})
    assert (
        second.json()
        == limits_for(world.acme)
        == {
            "running": None,
            "queued": None,
            "submit_per_second": 0.5,
            "dispatch_per_second": None,
            "running_per_key": None,
            "weight": 2.0,
            "queues": {
                "critical": {"running": 2, "min_running": 1, "queued": 9},
                "normal": {"running": None, "min_running": None, "queued": None},
                "batch": {"running": None, "min_running": None, "queued": None, "windows": None},
            },
        }
    )
    assert AuditEntry.objects.filter(action="limits.change").count() == 2


def test_members_read_limits_and_only_operators_change_them(world: World) -> None:
    for caller in (world.user("alice"), world.token()):
        assert caller.get(LIMITS).status_code == 200
        refused = caller.send("PUT", LIMITS, {"running": 100})
        assert (refused.status_code, refused.json()["required"]) == (403, "operator")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"running": -1}, "/running"),
        ({"running": True}, "/running"),
        ({"running": 1.5}, "/running"),
        ({"weight": 0}, "/weight"),
        ({"weight": None}, "/weight"),
        ({"submit_per_second": 0}, "/submit_per_second"),
        ({"dispatch_per_second": 0}, "/dispatch_per_second"),
        ({"running_per_key": -1}, "/running_per_key"),
        ({"queues": {"fast": {}}}, "/queues/fast"),
        ({"queues": {"critical": {"weight": 1}}}, "/queues/critical/weight"),
        ({"queues": {"critical": 5}}, "/queues/critical"),
        ({"queues": {"batch": {"running": 1, "min_running": 2}}}, "/queues/batch/min_running"),
        ({"tenant": "other"}, "/tenant"),
    ],
)
def test_a_wrong_limit_is_pointed_at_and_changes_nothing(
    world: World, body: dict[str, Any], pointer: str
) -> None:
    before = limits_for(world.acme)
    answer = world.operator().send("PUT", LIMITS, body)
    assert answer.status_code == 400
    assert pointer in [error["pointer"] for error in answer.json()["errors"]]
    assert limits_for(world.acme) == before


def test_a_stale_etag_is_412_and_none_is_fine(world: World) -> None:
    operator = world.operator()
    tag = operator.get(LIMITS)["ETag"]
    assert operator.send("PUT", LIMITS, {"running": 1}).status_code == 200
    assert operator.send("PUT", LIMITS, {"running": 2}, If_Match=tag).status_code == 412
    tag = operator.get(LIMITS)["ETag"]
    assert operator.send("PUT", LIMITS, {"running": 2}, If_Match=tag).status_code == 200


def test_an_operator_pauses_a_tenant(world: World) -> None:
    answer = world.operator().send("PATCH", f"{TENANTS}/acme", {"paused": True})
    assert (answer.status_code, answer.json()["paused"]) == (200, True)
    assert Tenant.objects.filter(paused=True).get() == world.acme


def test_an_operator_makes_a_tenant_once(world: World) -> None:
    operator = world.operator(reason=False)
    made = operator.post(TENANTS, {"slug": "New-Team", "name": "The new team"})
    assert (made.status_code, made.json()["slug"]) == (201, "new-team")
    assert operator.get(made["Location"]).json() == made.json()
    taken = operator.post(TENANTS, {"slug": "NEW-TEAM"})
    assert (taken.status_code, taken.json()["code"]) == (409, "slug_taken")
    assert AuditEntry.objects.filter(action="tenant.create", object="tenant:new-team").count() == 1


@pytest.mark.parametrize("slug", ["admin", "api", "..", "null", "a b", "", "-x", None, 7, "x" * 51])
def test_a_slug_that_is_reserved_or_malformed_is_400(world: World, slug: Any) -> None:
    answer = world.operator().post(TENANTS, {"slug": slug})
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["pointer"] == "/slug"


def test_a_patch_with_a_stale_etag_is_412(world: World) -> None:
    operator = world.operator()
    tag = operator.get(f"{TENANTS}/acme")["ETag"]
    assert operator.send("PATCH", f"{TENANTS}/acme", {"name": "A"}, If_Match=tag).status_code == 200
    stale = operator.send("PATCH", f"{TENANTS}/acme", {"name": "B"}, If_Match=tag)
    assert stale.status_code == 412
    assert operator.get(f"{TENANTS}/acme").json()["name"] == "A"
    unknown = operator.send("PATCH", f"{TENANTS}/missing", {"name": "B"})
    assert unknown.status_code == 404


def test_there_is_one_first_tenant_and_slugs_have_one_form(world: World) -> None:
    tenant_create(actor=SYSTEM, slug="demo", is_first=True)
    for bad in ({"slug": "second", "is_first": True}, {"slug": "Upper"}, {"slug": "a--b"}):
        with pytest.raises(IntegrityError), transaction.atomic():
            Tenant.objects.create(name="x", **bad)
