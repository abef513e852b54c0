"""``/members``: who belongs to a tenant, and as what."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib.auth import get_user_model
from django.urls import reverse
from drf_spectacular.utils import extend_schema
from rest_framework.response import Response

from rest.errors import ValidationFailed
from rest.etags import etag, require_match
from rest.idempotency import Created, create_once
from rest.pagination import PARAMETERS, page_of
from rest.parsing import Request
from tenants.access import OPERATOR, TenantView
from tenants.api.serializers import MemberBody, RoleBody
from tenants.api.shapes import member_shape
from tenants.selectors import member_get, members_of
from tenants.services import member_add, member_remove, member_role_set


class Members(TenantView):
    """The tenant's members."""

    # Adding somebody by user name tells whether that user exists, in any tenant: operators only.
    required_scopes: ClassVar = {"GET": "members:read", "POST": OPERATOR}
    query_parameters: ClassVar = {"GET": PARAMETERS}

    @extend_schema(operation_id="members_list", responses={200: dict[str, Any]})
    def get(self, request: Request, tenant: str) -> Response:
        """List members, newest first."""
        return Response(page_of(request, self.parameters, members_of(self.tenant), member_shape))

    @extend_schema(operation_id="members_create", request=MemberBody, responses={201: dict[str, Any]})
    def post(self, request: Request, tenant: str) -> Response:
        """Make an existing user a member."""
        values = MemberBody.read(request.data)
        users = get_user_model()._default_manager
        user = users.filter(username__iexact=values["user"], is_active=True).first()
        if user is None:
            raise ValidationFailed.at("/user", "unknown_user", "There is no such user.")

        def create() -> Created:
            member = member_add(actor=self.actor, tenant=self.tenant, user=user, role=values["role"])
            member.refresh_from_db()
            return Created(
                member_shape(member),
                reverse("api:member", args=[self.tenant.slug, user.get_username()]),
            )

        return create_once(request, scope=self.actor.idempotency_scope, create=create)


class Member(TenantView):
    """One member."""

    required_scopes: ClassVar = {
        "GET": "members:read",
        "PUT": "members:write",
        "DELETE": "members:write",
    }

    @extend_schema(operation_id="members_read", responses={200: dict[str, Any]})
    def get(self, request: Request, tenant: str, user: str) -> Response:
        """Show one member."""
        member = member_get(self.tenant, user)
        return Response(member_shape(member), headers={"ETag": etag(member.version)})

    @extend_schema(operation_id="members_change", request=RoleBody, responses={200: dict[str, Any]})
    def put(self, request: Request, tenant: str, user: str) -> Response:
        """Give the member another role."""
        member = member_role_set(
            actor=self.actor,
            tenant=self.tenant,
            member=member_get(self.tenant, user),
            role=RoleBody.read(request.data)["role"],
            check=lambda locked: require_match(request, locked.version, required=False),
        )
        return Response(member_shape(member), headers={"ETag": etag(member.version)})

    @extend_schema(operation_id="members_remove", responses={204: None})
    def delete(self, request: Request, tenant: str, user: str) -> Response:
        """Remove the member; the last owner stays."""
        member_remove(
            actor=self.actor,
            tenant=self.tenant,
            member=member_get(self.tenant, user),
            check=lambda locked: require_match(request, locked.version, required=False),
        )
        return Response(status=204)
