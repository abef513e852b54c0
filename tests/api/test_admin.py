"""The operators' admin of tenants: services behind every button, nothing secret on any page."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.test import Client

from audit.models import AuditEntry
from tenants.actor import SYSTEM
from tenants.models import ApiToken, Limit, Membership, Tenant
from tenants.selectors import limits_for
from tenants.services import limits_put, token_issue
from tests.tenants.callers import World


@pytest.fixture
def staff(world: World) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("stan"))
    return client


@pytest.mark.parametrize(
    "page",
    [
        "tenants/tenant/",
        "tenants/tenant/add/",
        "tenants/membership/",
        "tenants/membership/add/",
        "tenants/apitoken/",
        "tenants/limit/",
        "tenants/limit/add/",
        "audit/auditentry/",
        "rest/idempotencyrecord/",
    ],
)
def test_every_page_opens(staff: Client, page: str) -> None:
    assert staff.get(f"/admin/{page}").status_code == 200


@pytest.mark.parametrize(
    "page", ["tenants/apitoken/add/", "audit/auditentry/add/", "rest/idempotencyrecord/add/"]
)
def test_what_the_platform_writes_is_not_added_by_hand(staff: Client, page: str) -> None:
    assert staff.get(f"/admin/{page}").status_code == 403


def test_a_token_is_shown_without_its_hash_and_can_be_revoked(staff: Client, world: World) -> None:
    token, _ = token_issue(tenant=world.acme, actor=SYSTEM, name="ci", scopes=["*"])
    page = staff.get(f"/admin/tenants/apitoken/{token.pk}/change/")
    assert page.status_code == 200
    assert token.hash not in page.content.decode()
    staff.post("/admin/tenants/apitoken/", {"action": "revoke", "_selected_action": [str(token.pk)]})
    assert ApiToken.objects.get(pk=token.pk).revoked_at is not None
    assert AuditEntry.objects.get(action="token.revoke").actor == "user:stan"


def test_a_tenant_made_by_hand_is_audited_and_its_slug_stays(staff: Client) -> None:
    staff.post("/admin/tenants/tenant/add/", {"slug": "byhand", "name": "By hand"})
    tenant = Tenant.objects.get(slug="byhand")
    assert AuditEntry.objects.get(action="tenant.create", object="tenant:byhand").tenant_id
    staff.post(
        f"/admin/tenants/tenant/{tenant.pk}/change/",
        {"slug": "other-slug", "name": "Renamed", "paused": "on"},
    )
    tenant.refresh_from_db()
    assert (tenant.slug, tenant.name, tenant.paused, tenant.version) == (
        "byhand",
        "Renamed",
        True,
        2,
    )


def test_the_last_owner_stays_also_here(staff: Client, world: World) -> None:
    owner = Membership.objects.get(tenant=world.acme, role="owner")
    answer = staff.post(f"/admin/tenants/membership/{owner.pk}/change/", {"role": "viewer"}, follow=True)
    assert "The last owner stays" in answer.content.decode()
    staff.post(f"/admin/tenants/membership/{owner.pk}/delete/", {"post": "yes"})
    everybody = [str(pk) for pk in Membership.objects.values_list("pk", flat=True)]
    staff.post(
        "/admin/tenants/membership/",
        {"action": "delete_selected", "_selected_action": everybody, "post": "yes"},
    )
    assert Membership.objects.count() == len(everybody)
    owner.refresh_from_db()
    assert owner.role == "owner"


def test_limits_changed_by_hand_raise_the_version(staff: Client, world: World) -> None:
    limits_put(actor=SYSTEM, tenant=world.acme, limits={"queues": {"batch": {"running": 1}}})
    row = Limit.objects.get()
    staff.post(f"/admin/tenants/limit/{row.pk}/change/", {"running": "5", "weight": "1"})
    row.refresh_from_db()
    assert (row.running, row.version) == (5, 2)
    assert limits_for(world.acme)["queues"]["batch"]["running"] == 5
