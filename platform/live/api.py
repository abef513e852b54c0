"""``POST …/ws-ticket``: a one-time ticket for one of the tenant's sockets."""

from __future__ import annotations

from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema
from rest_framework.response import Response

from live import limits
from live.routing import socket_tenant
from live.tickets import issue
from rest.errors import ValidationFailed
from rest.fields import StrictSerializer, StrictString
from rest.parsing import Request
from tenants.access import TenantView


class TicketBody(StrictSerializer):
    """The socket's path, such as ``/ws/v1/tenants/acme/feed``; a query is not part of it."""

    path = StrictString(min_length=1, max_length=500)


class WsTicket(TenantView):
    """One-time tickets."""

    required_scopes: ClassVar = {"POST": "tasks:read"}

    @extend_schema(operation_id="ws_ticket", request=TicketBody, responses={200: dict[str, Any]})
    def post(self, request: Request, tenant: str) -> Response:
        """Give a ticket, for the subprotocol pair ``["ticket", TICKET]``, at that path alone."""
        path = TicketBody.read(request.data)["path"].partition("?")[0]
        if socket_tenant(path) != self.tenant.slug:
            detail = "Give the path of one of this tenant's sockets, such as /ws/v1/tenants/…/feed."
            raise ValidationFailed.at("/path", "not_a_socket", detail)
        ticket = issue(self.actor, path)
        response = Response({"ticket": ticket, "path": path, "expires_in": limits.TICKET_LIFE})
        response["Cache-Control"] = "no-store"
        return response
