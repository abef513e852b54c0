"""``manage.py first_start``: the first tenant, user and tokens; `up` runs it once."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandParser
from django.db import transaction

from tenants.actor import SYSTEM
from tenants.models import Membership, Tenant
from tenants.scopes import ALL, OWNER
from tenants.services import member_add, operator_token_issue, tenant_create, token_issue

TENANT = "demo"
USER = "admin"


class Command(BaseCommand):
    """Makes what is missing and issues two new tokens; what exists is kept."""

    help = "Make the first tenant, its owner, and tokens; safe to repeat."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Secrets come and go by private files."""
        parser.add_argument("--password-file", type=Path, required=True)
        parser.add_argument("--answer", type=Path, required=True)
        parser.add_argument(
            "--set-password",
            action="store_true",
            help="also when the user exists (the database is ours alone)",
        )

    @transaction.atomic
    def handle(self, *args: Any, **options: Any) -> None:
        """Do it all in one transaction, then write the answer."""
        password = options["password_file"].read_text().rstrip("\n")
        tenant = Tenant.objects.filter(slug=TENANT).first() or tenant_create(
            actor=SYSTEM,
            slug=TENANT,
            name="Demo",
            is_first=not Tenant.objects.filter(is_first=True).exists(),
        )
        user = get_user_model().objects.filter(username=USER).first()
        is_new = user is None
        if user is None:
            user = get_user_model()(username=USER, is_staff=True, is_superuser=True)
        if is_new or options["set_password"]:
            user.set_password(password)
            user.save()
        if not Membership.objects.filter(tenant=tenant, user=user).exists():
            member_add(actor=SYSTEM, tenant=tenant, user=user, role=OWNER)
        _, token = token_issue(tenant=tenant, actor=SYSTEM, name="first", scopes=[ALL])
        _, operator_token = operator_token_issue(actor=SYSTEM, name="first")
        answer = {
            "tenant": tenant.slug,
            "token": token,
            "operator_token": operator_token,
            "user": USER,
            "password": password if is_new or options["set_password"] else None,
        }
        descriptor = os.open(options["answer"], os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            json.dump(answer, stream)
