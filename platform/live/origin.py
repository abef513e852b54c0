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
    Host header, already checked against the allowed hosts). Under the name of a public address with
    https, plain pages are not ours: anybody on the way could have written them.
    """
    asked, public = read_origin(origin), read_origin(public_url)
    own = read_origin(f"{'https' if secure else 'http'}://{host}")
    if public and own and (public[0], *own[:2]) == ("https", "http", public[1]):
        own = None
    return asked is not None and asked in (public, own)
