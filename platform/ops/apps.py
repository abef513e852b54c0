"""The Django application ``ops``: management commands only, no models."""

from __future__ import annotations

from django.apps import AppConfig


class OpsConfig(AppConfig):
    """Registers the commands ``up``, ``pools`` and ``first_start``."""

    name = "ops"
