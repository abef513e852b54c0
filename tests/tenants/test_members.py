"""Members: who may change whom, and the owner who stays."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, connection, connections, transaction
from django.db.models import ProtectedError
from django.test import Client

from audit.models import AuditEntry
from tenants.actor import SYSTEM, Actor
from tenants.errors import LastOwner, ScopesExceeded
from tenants.models import Membership
from tenants.scopes import scopes_of
from tenants.selectors import member_get
from tenants.services import member_add, member_remove, member_role_set
from tests.conftest import Eventually
from tests.tenants.callers import World

MEMBERS = "/api/v1/tenants/acme/members"


def test_an_admin_changes_members_but_not_owners(world: World) -> None:
    adam = world.user("adam")
    assert adam.send("PUT", f"{MEMBERS}/bob", {"role": "member"}).json()["role"] == "member"
    for body in ({"role": "owner"}, {"role": "viewer"}):
        user = "bob" if body["role"] == "owner" else "alice"
        refused = adam.send("PUT", f"{MEMBERS}/{user}", body)
        assert (refused.status_code, refused.json()["required"]) == (403, "owner")
    assert adam.send("DELETE", f"{MEMBERS}/alice").status_code == 403
    assert adam.send("DELETE", f"{MEMBERS}/bob").status_code == 204
    assert AuditEntry.objects.filter(action__startswith="member.", actor="user:adam").count() == 2


def test_the_last_owner_stays(world: World) -> None:
    alice = world.user("alice")
    for answer in (
        alice.send("PUT", f"{MEMBERS}/alice", {"role": "admin"}),
        alice.send("DELETE", f"{MEMBERS}/alice"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (409, "last_owner")
    assert alice.send("PUT", f"{MEMBERS}/adam", {"role": "owner"}).status_code == 200
    assert alice.send("DELETE", f"{MEMBERS}/alice").status_code == 204
    assert alice.get(MEMBERS).status_code == 404


def test_two_owners_cannot_remove_each_other_at_once(lasting_world: World) -> None:
    acme = lasting_world.acme
    adam = member_get(acme, "adam")
    member_role_set(actor=SYSTEM, tenant=acme, member=adam, role="owner")
    barrier = Barrier(2)

    def remove(username: str) -> bool:
        try:
            member = member_get(acme, username)
            barrier.wait()
            member_remove(actor=SYSTEM, tenant=acme, member=member)
            return True
        except LastOwner:
            return False
        finally:
            connections.close_all()

    with ThreadPoolExecutor(2) as pool:
        removed = list(pool.map(remove, ["alice", "adam"]))
    assert sorted(removed) == [False, True]
    assert Membership.objects.filter(tenant=acme, role="owner").count() == 1


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_who_comes_second_to_a_member_that_is_being_removed_is_told_404(
    lasting_world: World, eventually: Eventually, method: str
) -> None:
    acme = lasting_world.acme
    alice = lasting_world.user("alice")
    mia = member_get(acme, "mia")

    def change() -> Any:
        try:
            body = {"role": "viewer"} if method == "PUT" else None
            return alice.send(method, f"{MEMBERS}/mia", body)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            member_remove(actor=SYSTEM, tenant=acme, member=mia)
            second = pool.submit(change)
            eventually(_somebody_waits_for_us)
        answer = second.result()
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def _somebody_waits_for_us() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT 1 FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid))"
        )
        return cursor.fetchone() is not None


def test_a_stale_etag_is_412(world: World) -> None:
    alice = world.user("alice")
    tag = alice.get(f"{MEMBERS}/bob")["ETag"]
    changed = alice.send("PUT", f"{MEMBERS}/bob", {"role": "member"}, If_Match=tag)
    assert (changed.status_code, changed["ETag"] != tag) == (200, True)
    stale = alice.send("DELETE", f"{MEMBERS}/bob", If_Match=tag)
    assert (stale.status_code, stale.json()["code"]) == (412, "precondition_failed")


def test_operators_add_members_and_nobody_learns_who_has_an_account(world: World) -> None:
    body = {"user": "carol", "role": "viewer"}
    assert world.user("alice").post(MEMBERS, body).status_code == 403
    operator = world.operator()
    assert operator.post(MEMBERS, body).status_code == 201
    again = operator.post(MEMBERS, body)
    assert (again.status_code, again.json()["code"]) == (409, "already_member")
    unknown = operator.post(MEMBERS, {"user": "nobody-here", "role": "viewer"})
    assert unknown.json()["errors"][0]["code"] == "unknown_user"
    wrong = operator.post(MEMBERS, {"user": "carol", "role": "king"})
    assert wrong.json()["errors"][0]["pointer"] == "/role"


def test_a_role_outside_the_words_is_refused_by_the_database(world: World) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        Membership.objects.update(role="king")


def test_user_names_differ_by_more_than_case(world: World) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        User.objects.create(username="ALICE")


def test_a_token_with_every_scope_is_no_owner(world: World) -> None:
    refused = world.token().send("PUT", f"{MEMBERS}/bob", {"role": "owner"})
    assert (refused.status_code, refused.json()["code"]) == (403, "role_required")
    assert not Actor(kind="token", name="token:ci").operator


def test_a_last_owner_cannot_be_deleted_as_a_user_either(world: World) -> None:
    alice, bob = (User.objects.get(username=name) for name in ("alice", "bob"))
    with pytest.raises(ProtectedError, match="alice owner of acme"):
        alice.delete()
    with pytest.raises(ProtectedError):
        User.objects.filter(username__in=["alice", "bob"]).delete()
    assert Membership.objects.filter(user=alice, role="owner").exists()
    Membership.objects.filter(user=bob).update(role="owner")
    alice.delete()
    assert not Membership.objects.filter(user__username="alice").exists()


def test_two_owners_cannot_be_deleted_at_once_as_users(lasting_world: World) -> None:
    acme = lasting_world.acme
    member_role_set(actor=SYSTEM, tenant=acme, member=member_get(acme, "adam"), role="owner")
    chief = User.objects.create_superuser("chief", password="pass")
    barrier = Barrier(2)

    def delete(username: str) -> bool:
        try:
            client = Client()
            client.force_login(chief)
            pk = User.objects.get(username=username).pk
            barrier.wait()
            action = {"action": "delete_selected", "_selected_action": [str(pk)], "post": "yes"}
            client.post("/admin/auth/user/", action)
            return not User.objects.filter(pk=pk).exists()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(2) as pool:
        deleted = list(pool.map(delete, ["alice", "adam"]))
    assert sorted(deleted) == [False, True]
    assert Membership.objects.filter(tenant=acme, role="owner").count() == 1


def test_the_admin_shows_why_an_owner_stays(world: World) -> None:
    User.objects.create_superuser("chief", password="pass")
    client = Client()
    client.force_login(User.objects.get(username="chief"))
    alice = User.objects.get(username="alice")
    path = f"/admin/auth/user/{alice.pk}/delete/"
    assert b"owner of acme" in client.get(path).content
    client.post(path, {"post": "yes"})
    assert User.objects.filter(pk=alice.pk).exists()


@pytest.mark.parametrize(
    ("method", "user", "body"),
    [
        ("PUT", "bob", {"role": "admin"}),
        ("PUT", "bob", {"role": "member"}),
        ("PUT", "adam", {"role": "viewer"}),
        ("DELETE", "adam", None),
        ("DELETE", "mia", None),
    ],
)
def test_no_token_gives_or_takes_a_role_beyond_its_own_scopes(
    world: World, method: str, user: str, body: dict[str, str] | None
) -> None:
    before = sorted(Membership.objects.values_list("user__username", "role"))
    refused = world.token("members:write").send(method, f"{MEMBERS}/{user}", body)
    assert (refused.status_code, refused.json()["code"]) == (403, "scopes_exceeded")
    assert "tasks:write" in refused.json()["required"]
    assert sorted(Membership.objects.values_list("user__username", "role")) == before
    assert not AuditEntry.objects.filter(actor="token:ci").exists()


def test_a_token_handles_roles_whose_scopes_it_holds(world: World) -> None:
    token = world.token("members:write", *scopes_of("member"))
    assert token.send("PUT", f"{MEMBERS}/mia", {"role": "viewer"}).status_code == 200
    assert token.send("PUT", f"{MEMBERS}/bob", {"role": "member"}).status_code == 200
    assert token.send("DELETE", f"{MEMBERS}/mia").status_code == 204
    assert world.token("*").send("PUT", f"{MEMBERS}/bob", {"role": "admin"}).status_code == 200
    assert world.user("adam").send("PUT", f"{MEMBERS}/bob", {"role": "viewer"}).status_code == 200
    assert world.operator().send("PUT", f"{MEMBERS}/bob", {"role": "admin"}).status_code == 200


def test_the_service_itself_lets_nobody_add_a_role_beyond_the_own_scopes(world: World) -> None:
    few = Actor(kind="token", name="token:ci", scopes=frozenset({"members:write"}))
    with pytest.raises(ScopesExceeded):
        member_add(actor=few, tenant=world.acme, user=User.objects.get(username="carol"), role="viewer")
