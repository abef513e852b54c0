"""``/tokens``: issue, list and revoke a tenant's API tokens."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, ClassVar
from uuid import UUID

from django.urls import reverse
from drf_spectacular.utils import extend_schema
from rest_framework.response import Response

from rest.etags import etag, require_match
from rest.idempotency import Created, create_once
from rest.pagination import PARAMETERS, page_of
from rest.parsing import Request
from tenants.access import TenantView
from tenants.api.serializers import TokenBody
from tenants.api.shapes import token_shape
from tenants.selectors import token_get, tokens_of
from tenants.services import token_issue, token_revoke, token_version


class Tokens(TenantView):
    """The tenant's tokens."""

    required_scopes: ClassVar = {"GET": "tokens:read", "POST": "tokens:write"}
    query_parameters: ClassVar = {"GET": PARAMETERS}

    @extend_schema(operation_id="tokens_list", responses={200: dict[str, Any]})
    def get(self, request: Request, tenant: str) -> Response:
        """List tokens, newest first, without their secrets."""
        return Response(page_of(request, self.parameters, tokens_of(self.tenant), token_shape))

    @extend_schema(operation_id="tokens_create", request=TokenBody, responses={201: dict[str, Any]})
    def post(self, request: Request, tenant: str) -> Response:
        """Issue a token; its plain text is in this answer and nowhere else."""
        values = TokenBody.read(request.data)
        seconds = values.get("expires_in")

        def create() -> Created:
            token, plain = token_issue(
                tenant=self.tenant,
                actor=self.actor,
                name=values["name"],
                scopes=values["scopes"],
                expires_in=None if seconds is None else timedelta(seconds=seconds),
            )
            return Created(
                {**token_shape(token), "token": plain},
                reverse("api:token", args=[self.tenant.slug, token.uid]),
            )

        return create_once(
            request,
            scope=self.actor.idempotency_scope,
            create=create,
            secret_fields=("token",),
        )


class Token(TenantView):
    """One token."""

    required_scopes: ClassVar = {"GET": "tokens:read", "DELETE": "tokens:write"}

    @extend_schema(operation_id="tokens_read", responses={200: dict[str, Any]})
    def get(self, request: Request, tenant: str, token: UUID) -> Response:
        """Show one token."""
        found = token_get(self.tenant, token)
        return Response(token_shape(found), headers={"ETag": etag(token_version(found))})

    @extend_schema(operation_id="tokens_revoke", responses={204: None})
    def delete(self, request: Request, tenant: str, token: UUID) -> Response:
        """Revoke it at once; it stays in the list."""
        token_revoke(
            actor=self.actor,
            token=token_get(self.tenant, token),
            check=lambda version: require_match(request, version, required=False),
        )
        return Response(status=204)
