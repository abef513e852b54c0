"""The Django application ``ops``: management commands only, no models."""

from __future__ import annotations

from django.apps import AppConfig


class OpsConfig(AppConfig):
    """Registers the commands ``pools`` and ``first_start``; ``up`` runs before there are settings."""

    name = "ops"
