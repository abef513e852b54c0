"""Absolute addresses: by the public URL, since the request may have come through a proxy."""

from __future__ import annotations

from django.conf import settings


def site() -> str:
    """Return the public address of the platform, without a slash at its end."""
    return str(settings.SWITCHYARD.public_url).rstrip("/")
