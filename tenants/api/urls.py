"""The addresses of tenants: outside a tenant, and below ``/api/v1/tenants/{tenant}/``."""

from __future__ import annotations

from django.urls import path

import rest.converters  # noqa: F401 - registers `id`, `name`, `number`, `word`
from tenants.api.caller import Me, TenantHome, Tenants
from tenants.api.limits import Limits
from tenants.api.members import Member, Members
from tenants.api.tokens import Token, Tokens

urlpatterns = [
    path("me", Me.as_view(), name="me"),
    path("tenants", Tenants.as_view(), name="tenants"),
    path("tenants/<name:tenant>", TenantHome.as_view(), name="tenant"),
]

tenant_urlpatterns = [
    # The same address as `tenant` above, for those who write the slash; documented once.
    path("", TenantHome.as_view(schema=None), name="tenant-slash"),
    path("tokens", Tokens.as_view(), name="tokens"),
    path("tokens/<id:token>", Token.as_view(), name="token"),
    path("members", Members.as_view(), name="members"),
    path("members/<word:user>", Member.as_view(), name="member"),
    path("limits", Limits.as_view(), name="limits"),
]
