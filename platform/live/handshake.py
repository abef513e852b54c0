"""Reading a WebSocket's opening: who is it, and may a browser page send this cookie here?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qsl

from django.conf import settings
from django.http.request import split_domain_port, validate_host

from live.credentials import Credential, Session, Token, Visitor, admit
from live.origin import is_our_page
from live.tickets import TicketInvalid, redeem
from rest.errors import Unauthenticated
from tenants.access import REASON_HEADER
from tenants.authentication import bearer
from tenants.errors import InvalidToken

BEARER, TICKET = "bearer", "ticket"
_SECRET_NAMES = frozenset({"token", "ticket", "access_token", "bearer", "authorization", "api_key"})


class SecretInAddress(Unauthenticated):
    """A credential was written into the address, where logs and histories keep it."""

    code = "secret_in_address"
    default_detail = "A token or ticket in the address is refused, and should be replaced now."


@dataclass(frozen=True, slots=True)
class Opening:
    """What a socket's opening request carries; header names are in lower case."""

    path: str
    query: str
    headers: Mapping[str, str]
    subprotocols: tuple[str, ...]
    secure: bool

    @classmethod
    def of(cls, scope: Mapping[str, Any]) -> Opening:
        """Read an ASGI scope."""
        return cls(
            path=scope["path"],
            query=scope["query_string"].decode("latin-1"),
            headers=_headers(scope["headers"]),
            subprotocols=tuple(scope.get("subprotocols") or ()),
            secure=scope.get("scheme") in ("wss", "https"),
        )

    @property
    def subprotocol(self) -> str | None:
        """Return what to answer; browsers insist on one of theirs, and it must not be the secret."""
        return next((name for name in self.subprotocols if name in (BEARER, TICKET)), None)

    @property
    def session_key(self) -> str | None:
        """Return the session's key from the cookies."""
        try:
            cookies = SimpleCookie(self.headers.get("cookie", ""))
        except CookieError:
            return None
        morsel = cookies.get(settings.SESSION_COOKIE_NAME)
        return morsel.value if morsel and morsel.value else None

    @property
    def shows_credential(self) -> bool:
        """Tell whether the caller shows a credential of its own accord, so that its cookie counts for
        nothing. Naming one is not enough: a page can name ``bearer`` and leave the rest to the cookie.
        """
        shown = self._subprotocol_value(BEARER) or self._subprotocol_value(TICKET)
        return bool(shown or self.headers.get("authorization"))

    @property
    def is_cross_site(self) -> bool:
        """Tell whether this is a cookie that a page of somebody else, or no page at all, sends."""
        if self.shows_credential or self.session_key is None:
            return False
        origin, host = self.headers.get("origin"), self.headers.get("host", "")
        domain, _ = split_domain_port(host)
        if origin is None or not validate_host(domain, settings.ALLOWED_HOSTS):
            return True
        public = str(settings.SWITCHYARD.public_url)
        return not is_our_page(origin, public_url=public, host=host, secure=self.secure)

    def visitor(self, slug: str) -> Visitor:
        """Let the caller into the tenant. Synchronous: it asks the database and, for tickets, Redis.

        Raises:
            Unauthenticated, NotFound, Forbidden, TooManyRequests, Unavailable
        """
        self._refuse_secrets_in_address()
        credential, reason = self._credential()
        return admit(credential, slug, reason=reason)

    def _credential(self) -> tuple[Credential, str]:
        reason = self.headers.get(REASON_HEADER.lower(), "")
        if not self.shows_credential:
            # Only here does the cookie decide, and only after ``is_cross_site`` had its say.
            if self.session_key is None:
                raise Unauthenticated()
            return Session(self.session_key), reason
        raw = bearer(self.headers.get("authorization")) or self._subprotocol_value(BEARER)
        if raw:
            return Token(raw), reason
        ticket = self._subprotocol_value(TICKET)
        if ticket:
            holder, given = redeem(ticket, self.path)
            self._refuse_other_user(holder.user_id)
            return holder, given
        raise InvalidToken()

    def _refuse_other_user(self, user_id: int | None) -> None:
        """Refuse a ticket of one user in the browser of another."""
        if user_id is None or self.session_key is None:
            return
        try:
            sender = Session(self.session_key).actor()
        except Unauthenticated:
            return
        if sender.user_id != user_id:
            raise TicketInvalid()

    def _subprotocol_value(self, name: str) -> str | None:
        """Return what follows ``name`` in the list of subprotocols."""
        pairs = zip(self.subprotocols, self.subprotocols[1:], strict=False)
        return next((value for key, value in pairs if key == name), None)

    def _refuse_secrets_in_address(self) -> None:
        for name, value in parse_qsl(self.query, keep_blank_values=True):
            if name.lower() in _SECRET_NAMES or value.startswith("sy_"):
                raise SecretInAddress()


def _headers(pairs: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return the headers; of a repeated one the first counts."""
    found: dict[str, str] = {}
    for name, value in pairs:
        found.setdefault(name.decode("latin-1").lower(), value.decode("latin-1"))
    return found
