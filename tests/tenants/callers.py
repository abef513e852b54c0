"""A small world to call the API in: two tenants, an operator, and callers of every kind."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client

from tenants.actor import SYSTEM
from tenants.models import Tenant
from tenants.services import member_add, operator_token_issue, tenant_create, token_issue

REASON = {"X-Operator-Reason": "a customer called"}


@dataclass
class Caller:
    """Somebody with a credential; ``send`` speaks JSON and never raises what the server did."""

    client: Client
    headers: dict[str, str]

    def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        raw: bytes | None = None,
        content_type: str = "application/json",
        **headers: str,
    ) -> Any:
        """Send one request; header names are written with underscores."""
        extra = {name.replace("_", "-"): value for name, value in headers.items()}
        if raw is None:
            raw = b"" if body is None else json.dumps(body).encode()
        return self.client.generic(
            method,
            path,
            raw,
            content_type if raw else "",
            headers={**self.headers, **extra},
        )

    def get(self, path: str, **headers: str) -> Any:
        return self.send("GET", path, **headers)

    def post(self, path: str, body: Any, **headers: str) -> Any:
        return self.send("POST", path, body, **headers)


@dataclass
class World:
    """Tenants ``acme`` and ``other``; alice owns acme, bob may look, carol belongs to other."""

    acme: Tenant
    other: Tenant

    def bearer(self, raw: str) -> Caller:
        return Caller(Client(raise_request_exception=False), {"Authorization": f"Bearer {raw}"})

    def anonymous(self) -> Caller:
        return Caller(Client(raise_request_exception=False), {})

    def token(self, *scopes: str, tenant: Tenant | None = None, name: str = "ci") -> Caller:
        _, raw = token_issue(
            tenant=tenant or self.acme, actor=SYSTEM, name=name, scopes=scopes or ("*",)
        )
        return self.bearer(raw)

    def operator(self, *, reason: bool = True) -> Caller:
        _, raw = operator_token_issue(actor=SYSTEM, name="root")
        caller = self.bearer(raw)
        caller.headers.update(REASON if reason else {})
        return caller

    def user(self, name: str, *, csrf: bool = False) -> Caller:
        client = Client(raise_request_exception=False, enforce_csrf_checks=csrf)
        client.force_login(User.objects.get(username=name))
        return Caller(client, {})


@pytest.fixture
def world(db: None) -> World:
    """Make the world anew for one test."""
    return make_world()


@pytest.fixture
def lasting_world(transactional_db: None) -> World:
    """The same, committed, so that threads see it."""
    return make_world()


@pytest.fixture(scope="session", autouse=True)
def the_trail_may_be_emptied_between_tests(django_db_setup: None, django_db_blocker: Any) -> None:
    """Let the tests' own TRUNCATE through; that the trigger refuses it has a test of its own."""
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        # Where no selected test needs the database, pytest-django makes none.
        cursor.execute("SELECT to_regclass('audit_auditentry') IS NOT NULL")
        if cursor.fetchone() == (True,):
            cursor.execute("ALTER TABLE audit_auditentry DISABLE TRIGGER audit_no_truncate")


def make_world() -> World:
    acme = tenant_create(actor=SYSTEM, slug="acme")
    other = tenant_create(actor=SYSTEM, slug="other")
    for name, tenant, role in (
        ("alice", acme, "owner"),
        ("adam", acme, "admin"),
        ("mia", acme, "member"),
        ("bob", acme, "viewer"),
        ("carol", other, "owner"),
    ):
        member_add(actor=SYSTEM, tenant=tenant, user=User.objects.create(username=name), role=role)
    return World(acme, other)
