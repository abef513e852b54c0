"""The app of tenants."""

from __future__ import annotations

from django.apps import AppConfig


class TenantsConfig(AppConfig):
    """Loads the OpenAPI description of our authentication."""

    name = "tenants"

    def ready(self) -> None:
        from tenants.api import openapi  # noqa: F401 - registers itself
