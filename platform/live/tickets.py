"""One-time tickets for sockets of browsers, which cannot send an Authorization header.

A ticket lives for :data:`live.limits.TICKET_LIFE` seconds in Redis, under its hash, and is bound to
its holder and to one path (which names the tenant). Taking it out and deleting it is one command,
so of two who present the same ticket one comes too late.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from functools import cache

import redis
from django.conf import settings

from live import limits
from live.credentials import Holder
from rest.errors import Unauthenticated, Unavailable
from tenants.actor import Actor

TIMEOUT_SECONDS = 1.0


class TicketInvalid(Unauthenticated):
    """Unknown, used, expired, for another path and malformed tickets look alike."""

    code = "invalid_ticket"
    title = "Invalid ticket"
    default_detail = "The ticket is not valid here; a ticket can be used once, within 30 seconds."


class TicketsAway(Unavailable):
    """Redis, which keeps the tickets, does not answer."""

    code = "tickets_unavailable"
    default_detail = "Tickets cannot be given or taken at the moment; use a token, or try again."


def issue(actor: Actor, path: str) -> str:
    """Make a ticket for a socket at ``path``. Synchronous.

    Raises:
        TicketsAway
    """
    ticket = secrets.token_urlsafe(32)
    content = {"user": actor.user_id, "token": actor.token_id, "reason": actor.reason, "path": path}
    try:
        _redis().set(_key(ticket), json.dumps(content), ex=limits.TICKET_LIFE)
    except redis.RedisError:
        raise TicketsAway(retry_after=2) from None
    return ticket


def redeem(ticket: str, path: str) -> tuple[Holder, str]:
    """Use a ticket up; return its holder and the reason that an operator gave. Synchronous.

    Raises:
        TicketInvalid, TicketsAway
    """
    try:
        found = _redis().getdel(_key(ticket))
    except redis.RedisError:
        raise TicketsAway(retry_after=2) from None
    if not isinstance(found, bytes):
        raise TicketInvalid()
    content = json.loads(found)
    if content["path"] != path:
        raise TicketInvalid()
    return Holder(content["user"], content["token"]), content["reason"]


def _key(ticket: str) -> str:
    return f"switchyard:ws-ticket:{hashlib.sha256(ticket.encode()).hexdigest()}"


@cache
def _redis() -> redis.Redis:
    return redis.Redis.from_url(
        settings.SWITCHYARD.redis_url,
        socket_timeout=TIMEOUT_SECONDS,
        socket_connect_timeout=TIMEOUT_SECONDS,
    )
