"""`switchyard me`: who the token is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from switchyard.cli import exit_codes
from switchyard.cli.command import Session, application, command

app = application("Who the token is.")


@command(app, "me")
def me(session: Session) -> int:
    """Show who the token is and what it may do."""
    found = session.client.me()
    if session.output.json:
        session.output.data(found)
        return exit_codes.OK
    token = found.get("token") or {}
    session.output.record(
        [
            ("server", session.client.transport.url),
            ("name", found.get("name")),
            ("kind", found.get("kind")),
            ("operator", found.get("operator") or None),
            ("token", token.get("name")),
            ("scopes", " ".join(token.get("scopes") or ())),
            ("expires", token.get("expires_at")),
            ("tenants", " ".join(_belongs(entry) for entry in found.get("tenants") or ())),
        ]
    )
    return exit_codes.OK


def _belongs(entry: Mapping[str, Any]) -> str:
    role = entry.get("role")
    return f"{entry.get('slug')} ({role})" if role else str(entry.get("slug"))
