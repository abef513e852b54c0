"""Which web pages may open a socket with the browser's cookies: our own alone."""

from __future__ import annotations

from urllib.parse import urlsplit

_PORTS = {"http": 80, "https": 443}

Origin = tuple[str, str, int]


def read_origin(text: str) -> Origin | None:
    """Return scheme, host and port of an origin or address; ``None`` when it has none (``null``)."""
    try:
        parts = urlsplit(text.strip())
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in _PORTS or not parts.hostname or parts.username is not None:
        return None
    return parts.scheme, parts.hostname.lower(), port or _PORTS[parts.scheme]


def is_our_page(origin: str, *, public_url: str, host: str, secure: bool) -> bool:
    """Tell whether a page of ``origin`` is one of ours, by scheme, host and port together.

    Ours are the public address and the one that this request itself was sent to (``host`` is its
    Host header, already checked against the allowed hosts).
    """
    asked = read_origin(origin)
    own = read_origin(f"{'https' if secure else 'http'}://{host}")
    return asked is not None and asked in (read_origin(public_url), own)
