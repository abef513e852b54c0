"""The app of live views."""

from __future__ import annotations

from django.apps import AppConfig


class LiveConfig(AppConfig):
    """Names the app; it has no models and no start-up work."""

    name = "live"
